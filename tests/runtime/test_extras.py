import re
import shlex
import sys
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from stale_runtime import extras
from stale_runtime.extras import how_to_install

ROOT = Path(__file__).parent.parent.parent


def test_the_command_is_for_the_python_that_runs_and_keeps_the_installed_stale_edge() -> None:
    assert shlex.split(how_to_install("export,video")) == [
        *(sys.executable, "-m", "pip", "install", "stale-edge[export,video]")
    ]


def test_only_where_pytorch_is_missing_its_size_is_spoken_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "gigabytes of CUDA; if you need none, install its CPU build first" in how_to_install("train")
    assert "gigabytes" not in how_to_install("video")


def test_without_pip_the_command_is_uv_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    monkeypatch.setattr(sys, "executable", "/a place/python")
    assert how_to_install("sign") == "uv pip install --python '/a place/python' 'stale-edge[sign]'"


def test_what_is_not_installed_at_all_is_installed_from_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from an index, where another project could take the name."""

    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.distribution", absent)
    assert shlex.split(how_to_install("video"))[-1] == f"{ROOT}[video]"


def test_every_extra_that_brings_pytorch_is_known() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    with_pytorch = {
        name for name, needs in setup["options.extras_require"].items() if re.search(r"^torch ", needs, re.M)
    }
    assert with_pytorch == extras._WITH_PYTORCH
