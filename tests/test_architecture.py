"""The house: rooms, floors and names are as ``docs/architecture.md`` and ``setup.cfg`` say."""

import ast
import configparser
import shutil
import subprocess
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import pytest

from tests.import_graph import FOLDERS, PAGE, ROOT, find_arrows, find_modules, find_upward, make_page, read_floors

MODULES = dict(find_modules())
SAME_NAME_BY_CONVENTION = {"main"}
"""What runs a command, in the module that is run."""
LINT = Path(sys.executable).parent / "lint-imports"


def find_repeated(homes: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: places for name, places in homes.items() if len(places) > 1}


def test_no_two_modules_share_a_name() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for module, path in MODULES.items():
        if path.stem not in ("__init__", "__main__"):
            homes[path.stem].append(module)
    assert find_repeated(homes) == {}


def test_no_two_public_definitions_share_a_name() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(module)
    assert find_repeated({name: places for name, places in homes.items() if name not in SAME_NAME_BY_CONVENTION}) == {}


def test_every_sub_package_is_installed() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    there = {module for module, path in MODULES.items() if path.stem == "__init__"}
    assert set(config["options"]["packages"].split()) == there


def test_every_folder_of_code_is_a_sub_package() -> None:
    folders = {path.parent for path in MODULES.values()}
    assert all((folder / "__init__.py").exists() for folder in folders)


@pytest.mark.parametrize("folder", FOLDERS.values())
def test_the_tests_mirror_a_package(folder: str) -> None:
    mirrored = ROOT / "tests" / folder
    rooms = {path.parent.relative_to(mirrored) for path in mirrored.rglob("*.py")}
    assert all((ROOT / folder / room).is_dir() for room in rooms)


@pytest.mark.parametrize("package", FOLDERS)
def test_public_names_are_all_that_a_package_lists(package: str) -> None:
    module = import_module(package)
    assert list(module.__all__) == sorted(set(module.__all__))
    assert [name for name in dir(module) if not name.startswith("_")] == [
        name for name in module.__all__ if not name.startswith("_")
    ]
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages under the names that they are imported by, with the contracts."""
    folder = tmp_path_factory.mktemp("copied")
    for package, source in FOLDERS.items():
        shutil.copytree(ROOT / source, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", folder)
    return folder


def lint(folder: Path, contract: str) -> "subprocess.CompletedProcess[str]":
    """Check a contract as ``make layering`` does, for a copy of the packages."""
    command = [str(LINT), "--config", "setup.cfg", "--contract", contract, "--no-cache", "--no-logo"]
    return subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("contract", "importer", "imported"),
    [
        ("packages", "stale_runtime/errors.py", "stale_model.network.stale"),
        ("packages", "stale_model/network/stale.py", "stale_bench.protocol"),
        ("runtime", "stale_runtime/system/files.py", "stale_runtime.bundle.layout"),
        ("runtime", "stale_runtime/inputs/prompts.py", "stale_runtime.decoding.soft_nms"),
        ("model", "stale_model/network/stale.py", "stale_model.training.losses"),
        ("bench", "stale_bench/engines/engine.py", "stale_bench.measuring.benchmark"),
        ("light", "stale_runtime/decoding/soft_nms.py", "scipy.special"),
        ("commands", "stale_runtime/inference/localizer.py", "stale_runtime.commands.run"),
        ("acyclic", "stale_runtime/bundle/layout.py", "stale_runtime.bundle.bundle"),
    ],
)
def test_an_import_that_breaks_a_contract_is_found(copied: Path, contract: str, importer: str, imported: str) -> None:
    assert lint(copied, contract).returncode == 0
    path = copied / importer
    before = path.read_text()
    path.write_text(f"{before}\n\ndef _added() -> None:\n    import {imported}\n")
    found = lint(copied, contract)
    path.write_text(before)
    assert found.returncode == 1, found.stdout
    assert "0 kept, 1 broken" in found.stdout
    assert imported.split(".")[0] in found.stdout


def test_no_arrow_leads_up() -> None:
    floors = read_floors()
    rooms = {room for floor in floors for room in floor.rooms}
    arrows = find_arrows()
    assert {room for arrow in arrows for room in arrow} <= rooms
    assert find_upward(floors, arrows) == []
    assert find_upward(floors, {("stale_runtime.system", "stale_runtime.bundle"): 1}) != []


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == make_page(), "docs/architecture.md is not current: run make drawing"
