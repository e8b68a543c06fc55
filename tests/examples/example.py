"""The examples, as modules and as a user starts them."""

import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from tests.cli.command import interruptible

EXAMPLES = Path(__file__).parents[2] / "examples"
VIDEO = EXAMPLES / "washing_a_car.mp4"


def load(name: str) -> Any:
    """An example as a module."""
    spec = spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up their annotations
    spec.loader.exec_module(module)
    return module


def start(name: str, *arguments: str | Path, folder: Path) -> "subprocess.Popen[str]":
    """Start an example in a folder, which it also uses for temporary files and as its home."""
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder), "HOME": str(folder), "XDG_CACHE_HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=interruptible,
    )


def run(name: str, *arguments: str | Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run an example in a folder to its end."""
    with start(name, *arguments, folder=folder) as process:
        out, _ = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out)
