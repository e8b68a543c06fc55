"""The pages that are written by hand, with links that work on the site as they do in the repository."""

import os
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    **{f"{name}.md": f"{name.lower()}.md" for name in ("CONTRIBUTING", "CHANGELOG", "SECURITY", "THIRD_PARTY")},
    **{f"docs/{path.name}": path.name for path in sorted((ROOT / "docs").glob("*.md"))},
}
"""By path in the repository, the path on the site, whose first page is the README."""

FENCED = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2", re.MULTILINE | re.DOTALL)
LINK = re.compile(r'(\]\(|\b(?:src|srcset|href)="|^\[[^\]\n]+\]:[ \t]+)([^)"\s]+)', re.MULTILINE)
COMMENT = re.compile(r"^<!--.*?-->\n", re.MULTILINE | re.DOTALL)
SHOWN_BY_BROWSERS = {".png", ".svg", ".jpg", ".html", ".mp4", ".webm", ".json", ".csv", ".txt"}


class DeadLinkError(Exception):
    """A link of a page leads to nothing in the repository."""


def write_pages(folder: Path) -> None:
    """Write README, the pages of docs/ and the other pages, and copy the files that they show or link to.

    Args:
        folder: where to, an empty folder.

    Raises:
        DeadLinkError: a page links to a file that does not exist.
    """
    for source, page in PAGES.items():
        (folder / page).write_text(convert_page((ROOT / source).read_text(), source, folder))


def convert_page(text: str, source: str, folder: Path) -> str:
    """A page with its links changed, outside of code blocks, and without comments.

    Args:
        text: the page.
        source: its path in the repository.
        folder: where files that it links to are copied.
    """
    blocks = [match.span() for match in FENCED.finditer(text)]
    pieces, position = [], 0
    for start, end in [*blocks, (len(text), len(text))]:
        prose = COMMENT.sub("", text[position:start])
        pieces += [LINK.sub(lambda link: link[1] + convert_link(link[2], source, folder), prose), text[start:end]]
        position = end
    return "".join(pieces)


def convert_link(target: str, source: str, folder: Path) -> str:
    """Where a link of a page leads on the site; files that are no pages are copied there."""
    if re.match(r"[a-z]+:|#", target):
        return target
    path, mark, anchor = target.partition("#")
    absolute = Path(os.path.normpath(ROOT / Path(source).parent / path))
    if not absolute.is_file() or not absolute.is_relative_to(ROOT):
        raise DeadLinkError(f"{source} links to {target}, which is no file of the repository")
    name = absolute.relative_to(ROOT).as_posix()
    on_site = PAGES.get(name) or copy_file(name, folder)
    return os.path.relpath(on_site, Path(PAGES[source]).parent) + mark + anchor


def copy_file(name: str, folder: Path) -> str:
    """Copy a file of the repository to the site, as text if a browser would not show it, and give its path there."""
    shown = name if Path(name).suffix in SHOWN_BY_BROWSERS else f"{name}.txt"
    on_site = shown.removeprefix("docs/") if name.startswith("docs/") else f"files/{shown}"
    (folder / on_site).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / name, folder / on_site)
    return on_site
