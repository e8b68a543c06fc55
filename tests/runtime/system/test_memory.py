from pathlib import Path

import numpy as np
import pytest

from stale_runtime import Localizer
from stale_runtime.errors import OutOfMemoryError
from stale_runtime.system import control_groups, memory
from stale_runtime.system.memory import NEGLIGIBLE, Available, available_memory, detection_bytes, require_memory
from tests.tiny import CLASSES


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GB to give and no limits."""
    (tmp_path / "self").mkdir()
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\nSwapFree: 0 kB\n")
    monkeypatch.setattr(control_groups, "PROC", tmp_path)
    monkeypatch.setattr(control_groups, "GROUPS", tmp_path / "cgroup")
    return tmp_path


def group(machine: Path, limit: str, used: int, cached: int = 0, *, seen_at: str = "box") -> None:
    (machine / "self" / "cgroup").write_text("0::/box\n")
    folder = machine / "cgroup" / seen_at
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text(limit + "\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"inactive_file {cached}\nactive_file 0\n")


@pytest.mark.usefixtures("machine")
def test_the_machine_s_memory_counts() -> None:
    assert available_memory() == Available(8_000_000 * 1024, "this machine")


def test_a_control_group_s_limit_counts_without_the_cache_of_files(machine: Path) -> None:
    group(machine, str(500 * 2**20), 400 * 2**20, cached=50 * 2**20)
    assert available_memory() == Available(150 * 2**20, "the memory limit of its control group")


def test_a_group_without_a_limit_does_not_count(machine: Path) -> None:
    group(machine, "max", 2**20)
    assert available_memory() == Available(8_000_000 * 1024, "this machine")


def test_a_control_group_of_version_1_counts_as_well(machine: Path) -> None:
    (machine / "self" / "cgroup").write_text("7:cpu,cpuacct:/box/inner\n6:memory:/box/inner\n")
    for folder, limit in (("box/inner", 2**63 - 4096), ("box", 500 * 2**20)):  # the first is no limit
        place = machine / "cgroup" / "memory" / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / "memory.limit_in_bytes").write_text(f"{limit}\n")
        (place / "memory.usage_in_bytes").write_text(f"{400 * 2**20}\n")
        (place / "memory.stat").write_text(f"inactive_file 0\ntotal_inactive_file {50 * 2**20}\n")
    assert available_memory() == Available(150 * 2**20, "the memory limit of its control group")


def test_a_container_that_sees_only_its_own_group_finds_it_at_the_root(machine: Path) -> None:
    group(machine, str(2**20), 0, seen_at="")
    assert available_memory() == Available(2**20, "the memory limit of its control group")


@pytest.mark.usefixtures("machine")
def test_what_is_too_much_is_refused_with_numbers() -> None:
    require_memory(7 * 2**30, "x", "y")
    with pytest.raises(
        OutOfMemoryError, match=r"^x: needs at least 9,216 MB of memory, 7,812 MB are left by this machine; y"
    ):
        require_memory(9 * 2**30, "x", "y")


def test_where_nothing_is_known_nothing_is_refused(machine: Path) -> None:
    (machine / "meminfo").unlink()
    assert available_memory() is None
    require_memory(2**60, "x", "y")


def test_small_needs_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: pytest.fail("a look takes time"))
    require_memory(NEGLIGIBLE, "x", "y")


def test_more_snippets_and_classes_need_more() -> None:
    def needed(length: int, classes: int, rows: int) -> int:
        return detection_bytes(length=length, rows=rows, classes=classes, channels=512)

    assert needed(100, 200, 100) < needed(200, 200, 100) < needed(200, 400, 100) < needed(200, 400, 200)
    assert needed(4096, 200, 4096) > 2 * 4 * 4096**2  # all masks, and what they are computed from
    assert needed(4000, 200, 500) == 2 * needed(2000, 200, 500)  # nothing grows with the square of T


def test_a_video_is_refused_before_memory_is_taken(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    localizer = Localizer.open(bundle, length=4096)
    prompts = localizer.encode_prompts(CLASSES)
    monkeypatch.setattr(memory, "available_memory", lambda: Available(2**20, "a test"))
    monkeypatch.setattr(memory, "NEGLIGIBLE", 0)
    monkeypatch.setattr(Localizer, "forward", lambda *_: pytest.fail("it ran"))
    with pytest.raises(
        OutOfMemoryError, match=r"T=4096 with 3 prompts: needs at least .* left by a test; take a smaller --length"
    ):
        localizer.detect(np.ones((20, 16), np.float32), prompts)
