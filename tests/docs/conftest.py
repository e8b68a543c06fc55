"""What the tests of the documentation share: the built site, and the files that its pages talk about."""

from pathlib import Path

import pytest

from tests.conftest import BuildOnce


@pytest.fixture(scope="session")
def site_build(build_once: BuildOnce) -> Path:
    """A folder in which the site was built, with what Zensical warned of in ``warnings.txt``."""
    pytest.importorskip("zensical", reason="no zensical; install it with: pip install '.[docs]'")
    from docs.site.make_site import build_site

    return build_once("site", lambda folder: (folder / "warnings.txt").write_text(build_site(folder)))


@pytest.fixture(scope="session")
def site(site_build: Path) -> Path:
    """The built site."""
    return site_build / "site"


@pytest.fixture(scope="session")
def world(build_once: BuildOnce, clip_folder: Path) -> Path:
    """The files that the pages use; read-only by convention."""
    pytest.importorskip("av", reason="no PyAV; install it with: pip install '.[video]'")
    from tests.docs.world import build_world

    return build_once("world", lambda folder: build_world(folder, clip_folder))
