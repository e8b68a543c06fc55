"""A real browser that opens pages, and remembers all that they say and ask for."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDE, PHONE = (1200, 900), (360, 740)
"""Width and height of a window, in CSS pixels."""


def find_chromium() -> str | None:
    """The path of an installed Chromium; None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def running_chromium(path: str) -> Iterator["Browser"]:
    """A headless Chromium, without the sandbox that it cannot have in a container; it opens only our own pages."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """An open page, what it wrote to the console, and what it asked for."""

    page: "Page"
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, path: Path) -> "Page":
        """Open a file, and wait until it is drawn."""
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("dialog", lambda dialog: self.messages.append(f"dialog: {dialog.message}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.absolute().as_uri())
        return self.page


@contextmanager
def watched_page(
    browser: "Browser", size: tuple[int, int] = WIDE, scheme: Literal["light", "dark"] = "light"
) -> Iterator[Watched]:
    """An empty page in a fresh window."""
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    try:
        yield Watched(context.new_page())
    finally:
        context.close()


def wait_until(page: "Page", condition: str) -> None:
    """Wait until JavaScript is true; Playwright's own way evaluates text, which the policy of the page forbids."""
    page.evaluate(
        f"""async () => {{
          const isTrue = () => {condition};
          for (let frame = 0; frame < 600 && !isTrue(); frame++) await new Promise(requestAnimationFrame);
          if (!isTrue()) throw new Error("still not true: " + isTrue);
        }}"""
    )
