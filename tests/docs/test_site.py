"""The site: built without a warning, whole, without a dead link, and loading nothing from elsewhere."""

import os
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

from docs.site.command_pages import COMMANDS, find_command
from docs.site.make_site import PACKAGES, SETTINGS
from docs.site.page_links import PAGES, DeadLinkError, convert_page
from tests.page.browser import watched_page
from tests.page.html_reader import HtmlReader

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LOADED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "iframe": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "link": ("href",),
}
"""By element, the attributes whose files a browser loads by itself."""
ONLY_NAMED = {"canonical", "prev", "next"}
"""Kinds of ``link`` that load nothing."""
IN_STYLE = re.compile(r"""(?:url\(\s*|@import\s+)["']?(?!data:)([^"')\s]+)""")


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[str, HtmlReader]:
    """All pages, by their path on the site; but not the one for missing pages, whose links only a server can follow."""
    paths = sorted({*site.rglob("*.html")} - {site / "404.html"})
    return {path.relative_to(site).as_posix(): HtmlReader(path.read_text()) for path in paths}


def anchors(page: HtmlReader) -> set[str]:
    return {value for _, attributes in page.elements if (value := attributes.get("id"))}


def test_it_is_built_without_a_warning(site_build: Path) -> None:
    assert (site_build / "warnings.txt").read_text() == ""


def test_each_page_is_in_the_navigation() -> None:
    nav = re.findall(r'"([\w/-]+\.md)"', (SETTINGS / "zensical.toml").read_text().partition("[project.theme]")[0])
    assert len(nav) == len(set(nav))
    assert set(PAGES.values()) == {page for page in nav if "/" not in page}


@pytest.mark.parametrize("package", PACKAGES)
def test_each_public_name_is_in_the_reference(package: str, pages: dict[str, HtmlReader]) -> None:
    there = set().union(*(anchors(page) for path, page in pages.items() if path.startswith("api/")))
    missing = {f"{package}.{name}" for name in import_module(package).__all__} - there
    assert missing == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_is_on_the_page_of_its_command(name: str, pages: dict[str, HtmlReader]) -> None:
    command = find_command(name)
    there = anchors(pages[f"commands/{name}.html"])
    commands = {name: command, **{f"{name}-{sub}": value for sub, value in getattr(command, "commands", {}).items()}}
    for path, one in commands.items():
        options = [max(option.opts, key=len) for option in one.params if option.param_type_name == "option"]
        assert {path + option for option in options} <= there


def test_no_link_is_dead(site: Path, pages: dict[str, HtmlReader]) -> None:
    ids = {site / path: anchors(page) for path, page in pages.items()}
    links = [
        (path, target)
        for path, page in pages.items()
        for _, attributes in page.elements
        for name in ("href", "src")
        if (target := attributes.get(name))
    ]
    assert [(path, target) for path, target in links if not leads_somewhere(target, site / path, ids)] == []


def leads_somewhere(target: str, page: Path, ids: dict[Path, set[str]]) -> bool:
    """Whether a link's file and anchor exist on the site; of links to elsewhere, whether they look like one."""
    split = urlsplit(target)
    if split.scheme == "https":
        return re.fullmatch(r"[\w.-]+\.\w+", split.netloc) is not None
    if split.scheme:
        return split.scheme == "data"
    file = Path(os.path.normpath(page.parent / unquote(split.path))) if split.path else page
    return file.is_file() and (not split.fragment or split.fragment in ids.get(file, ()))


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[str, HtmlReader]) -> None:
    loaded = [
        (path, value)
        for path, page in pages.items()
        for tag, attributes in page.elements
        if tag in LOADED and attributes.get("rel") not in ONLY_NAMED
        for name in LOADED[tag]
        if (value := attributes.get(name))
    ]
    loaded += [
        (path.relative_to(site).as_posix(), target)
        for path in (*site.rglob("*.css"), *site.rglob("*.html"))
        for target in IN_STYLE.findall(path.read_text())
        if path.suffix == ".css" or "<style" in path.read_text()
    ]
    assert loaded
    assert [(path, target) for path, target in loaded if re.match(r"(?:[a-z]+:)?//", target)] == []


def test_pages_ask_for_nothing_but_their_own_files(site: Path, browser: "Browser") -> None:
    with watched_page(browser) as watched:
        watched.page.context.set_offline(True)
        page = watched.open(site / "index.html")
        for path in ("pages.html", "commands/stale-bench.html", "api/localizer.html"):
            page.goto((site / path).as_uri())
        assert watched.messages == []
        assert [url for url in watched.requests if not url.startswith((site.as_uri(), "data:", "blob:"))] == []


def test_the_search_works_in_a_page_that_is_opened_as_a_file(site: Path, browser: "Browser") -> None:
    with watched_page(browser) as watched:
        page = watched.open(site / "index.html")
        page.keyboard.press("Control+k")
        page.keyboard.type("mean_average_precision")
        page.locator("a[href$='#stale_runtime.mean_average_precision']").wait_for()
        assert watched.messages == []


def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeadLinkError, match=r"docs/pages\.md links to \.\./nowhere\.py"):
        convert_page("See [this](../nowhere.py).\n", "docs/pages.md", tmp_path)


def test_links_lead_to_pages_and_to_copies_of_other_files(tmp_path: Path) -> None:
    text = (
        "[a](../README.md#install) [b](formats.md) [c](../Makefile) [d]: no link\n\n[e]: ../CONTRIBUTING.md\n\n"
        '<!-- not run: why -->\n```sh\nless [a](../README.md)\n```\n\n![f](../LICENSE) <img src="../LICENSE">\n'
    )
    assert convert_page(text, "docs/pages.md", tmp_path) == (
        "[a](index.md#install) [b](formats.md) [c](files/Makefile.txt) [d]: no link\n\n[e]: contributing.md\n\n"
        '```sh\nless [a](../README.md)\n```\n\n![f](files/LICENSE.txt) <img src="files/LICENSE.txt">\n'
    )
    assert {path.name for path in (tmp_path / "files").iterdir()} == {"Makefile.txt", "LICENSE.txt"}
