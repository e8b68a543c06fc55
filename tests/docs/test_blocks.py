"""Every command and every Python example of README and docs works, page by page and in order."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from docs.site.command_pages import COMMANDS, make_command_page
from stale_export import exporter
from tests.docs.blocks import KNOWN, PAGES, ROOT, Block, find_blocks, read_blocks
from tests.docs.shell import parse_command, run_block

BLOCKS = [block for page in PAGES for block in read_blocks(page)]
RUN = {block.page: None for block in BLOCKS if block.language in ("sh", "console", "python")}


@pytest.mark.parametrize("page", RUN)
def test_the_blocks_of_a_page_work_one_after_the_other(
    page: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text_encoder = onnx.load_from_string((world / "stale_bundle" / "text_encoder.onnx").read_bytes())
    monkeypatch.setattr(exporter, "text_encoder_model", lambda *_: text_encoder)  # tracing it takes seconds
    folder = tmp_path / "world"
    shutil.copytree(world, folder, symlinks=True)
    for block in BLOCKS:
        if block.page == page:
            run_block(block, folder)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_in_the_help_of_a_command_are_understood(name: str) -> None:
    for block in find_blocks(f"{name} --help", make_command_page(name)):
        for line in block.commands if block.language == "sh" else ():
            parse_command(block, line)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "json"], ids=str)
def test_json_can_be_parsed(block: Block) -> None:
    json.loads(block.code)


def test_each_block_says_its_language() -> None:
    assert [str(block) for block in BLOCKS if block.language not in KNOWN] == []


def test_python_passes_strict_type_checking(tmp_path: Path) -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed: stale-edge[dev]")
    types = tmp_path / "types"
    types.mkdir()
    (types / "stale_runtime").symlink_to(ROOT / "runtime")
    for number, block in enumerate(block for block in BLOCKS if block.language == "python" and not block.not_run):
        name = Path(block.page).stem.lower()
        (tmp_path / f"{name}_{number}.py").write_text(block.code)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent"),
            f"--cache-dir={ROOT}/.mypy_cache/blocks",
            *map(str, sorted(tmp_path.glob("*.py"))),
        ],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(types)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
