"""The README's Python example is typed, and runs."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    path = tmp_path / "example.py"
    path.write_text(block)
    return path


def test_it_passes_strict_type_checking(example: Path) -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed: stale-edge[dev]")
    types = example.parent / "types"
    types.mkdir()
    (types / "stale_runtime").symlink_to(README.parent / "runtime")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir"]
    done = subprocess.run(
        [*command, README.parent / ".mypy_cache" / "readme", example],
        cwd=example.parent,
        env={**os.environ, "MYPYPATH": str(types)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_runs(example: Path, bundle: Path, features: NDArray[np.float32]) -> None:
    work = example.parent
    (work / "stale_bundle").symlink_to(bundle)
    np.save(work / "video_feats.npy", features)
    done = subprocess.run(
        [sys.executable, example.name], cwd=work, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    content = json.loads((work / "video.json").read_text())
    found = len(content["detections"])
    assert content["video"] == "video_feats"
    assert len(done.stdout.splitlines()) == min(found, 10) + 1
    assert f"of {found} detections" in done.stdout
    assert len((work / "detections.csv").read_text().splitlines()) == found + 1
