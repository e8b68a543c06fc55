"""How to install what is missing: the packages of an extra, beside the stale-edge that runs."""

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

_WITH_PYTORCH = frozenset({"export", "train", "bench"})
_CPU_BUILD = (
    " (PyTorch may bring gigabytes of CUDA; if you need none, install its CPU build first, see "
    "https://pytorch.org/get-started/locally)"
)


def how_to_install(extra: str) -> str:
    """The command that adds an extra's packages to the Python that runs, and what to know before.

    It works from a checkout and from a wheel: pip and uv keep the stale-edge that is installed, without looking for one
    in an index, and install only what the extra adds.

    Args:
        extra: name of the extra, or several with commas, such as ``export,video``.
    """
    python = shlex.quote(sys.executable or "python3")
    tool = f"{python} -m pip install" if find_spec("pip") else f"uv pip install --python {python}"
    without_pytorch = _WITH_PYTORCH & set(extra.split(",")) and not find_spec("torch")
    return f"{tool} {shlex.quote(f'{_source()}[{extra}]')}{_CPU_BUILD if without_pytorch else ''}"


def _source() -> str:
    from importlib.metadata import PackageNotFoundError, distribution  # only now, because it takes time

    try:
        return distribution("stale-edge").metadata["Name"]
    except PackageNotFoundError:  # run from its folder without being installed
        return str(Path(__file__).resolve().parent.parent)
