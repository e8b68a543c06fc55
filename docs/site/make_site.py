"""``make docs``: collects the pages of the site in a folder, and builds it there with Zensical.

The pages are README.md, those of docs/, and generated ones: the commands and the Python interface. Nothing of the site
is loaded from elsewhere.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from docs.site.api_pages import write_api_pages
from docs.site.command_pages import write_command_pages
from docs.site.page_links import ROOT, DeadLinkError, write_pages

SETTINGS = Path(__file__).parent
PACKAGES = {
    "stale_runtime": "runtime",
    "stale_model": "stale_model",
    "stale_export": "export",
    "stale_bench": "bench",
}
"""The folder of each package, which mkdocstrings has to find by the package's name."""

ALL_WELL = "No issues found"
"""What Zensical writes where it would write warnings."""

SEARCH_IN_FILES = """\
// A browser lets no page that is opened as a file start a worker from another file. The search is one, so it is here.
if (location.protocol === "file:") {
  const source = %s;
  const OfFile = Worker;
  window.Worker = class extends OfFile {
    constructor() { super(URL.createObjectURL(new Blob([source], { type: "text/javascript" }))); }
  };
}
"""


def collect_pages(folder: Path) -> Path:
    """Write everything that the site is built from into a folder, and give the path of its settings.

    Raises:
        DeadLinkError: a page links to a file that does not exist.
    """
    pages = folder / "site_pages"
    shutil.rmtree(pages, ignore_errors=True)
    for name in ("commands", "api"):
        (pages / name).mkdir(parents=True)
    write_pages(pages)
    write_command_pages(pages / "commands")
    write_api_pages(pages / "api")
    shutil.copy(SETTINGS / "site.css", pages)
    (pages / "iframe-worker.js").write_text(SEARCH_IN_FILES % json.dumps(read_search_worker()))
    for package, source in PACKAGES.items():
        link = folder / "types" / package
        if not link.exists():
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(ROOT / source)
    return Path(shutil.copy(SETTINGS / "zensical.toml", folder))


def read_search_worker() -> str:
    """The script of Zensical that searches."""
    import zensical

    (script,) = Path(zensical.__file__).parent.glob("templates/assets/javascripts/workers/search.*.js")
    return script.read_text()


def build_site(folder: Path) -> str:
    """Build the site in ``folder/site``, and give what Zensical warned of: nothing, if all is well.

    Raises:
        DeadLinkError: a page links to a file that does not exist.
    """
    settings = collect_pages(folder)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", str(settings)]
    done = subprocess.run(
        command,
        cwd=ROOT,  # where Python finds our extension of griffe
        env={**os.environ, "NO_COLOR": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    said = "\n".join(line for line in done.stderr.splitlines() if line not in ("", ALL_WELL))
    return said or (f"Zensical ended with exit code {done.returncode}" if done.returncode else "")


def main() -> int:
    """Build the site, and print where it is."""
    try:
        warnings = build_site(ROOT / "build")
    except DeadLinkError as error:
        warnings = str(error)
    if warnings:
        print(warnings, file=sys.stderr)
        return 1
    print(ROOT / "build" / "site" / "index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
