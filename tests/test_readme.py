"""The Python examples of README and docs/ are typed. ``tests/docs/`` runs them."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def test_the_python_examples_pass_strict_type_checking(tmp_path: Path) -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed: stale-edge[dev]")
    examples = []
    for page in PAGES:
        for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)):
            examples.append(tmp_path / f"{page.stem.lower()}_{number}.py")
            examples[-1].write_text(block)
    assert len(examples) >= 5
    types = tmp_path / "types"
    types.mkdir()
    (types / "stale_runtime").symlink_to(ROOT / "runtime")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir"]
    done = subprocess.run(
        [*command, ROOT / ".mypy_cache" / "readme", *examples],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(types)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
