"""What the tests of pages share."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import BuildOnce
from tests.page.browser import Watched, watched_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture
def watched(browser: "Browser", tmp_path: Path) -> Iterator[Watched]:
    """A page that has to stay silent, and may ask for nothing but files of the folder that it lies in."""
    with watched_page(browser) as page:
        yield page
        assert page.messages == []
        assert page.requests
        assert [url for url in page.requests if not url.startswith((tmp_path.as_uri(), "data:"))] == []


@pytest.fixture(scope="session")
def webm(build_once: BuildOnce) -> Path:
    """A minute of video."""
    pytest.importorskip("av", reason="no PyAV; install it with: pip install '.[video]'")
    from tests.page.samples import write_webm

    return build_once("webm", lambda folder: write_webm(folder / "minute.webm")) / "minute.webm"
