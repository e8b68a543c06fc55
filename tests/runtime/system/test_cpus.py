import os
from pathlib import Path

import pytest

from stale_runtime.system import control_groups
from stale_runtime.system.cpus import available_threads


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with eight CPUs and no limits."""
    (tmp_path / "self").mkdir()
    monkeypatch.setattr(control_groups, "PROC", tmp_path)
    monkeypatch.setattr(control_groups, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path


def write(machine: Path, own_groups: str, **files: str) -> None:
    """Say in which groups this process is, and what their files contain; ``__`` stands for a slash."""
    (machine / "self" / "cgroup").write_text(own_groups)
    for name, content in files.items():
        *folders, file = name.split("__")
        path = machine.joinpath("groups", *folders, file.replace("cpu_", "cpu."))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")


@pytest.mark.usefixtures("machine")
def test_without_limits_all_cpus_count_that_this_process_may_run_on() -> None:
    assert available_threads() == 8


@pytest.mark.parametrize(
    ("quota", "threads"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("20000 100000", 1),
        ("max 100000", 8),
        ("6400000 100000", 8),
        ("", 8),
    ],
)
def test_a_control_group_grants_whole_cpus_or_a_part_of_one(machine: Path, quota: str, threads: int) -> None:
    write(machine, "0::/box\n", box__cpu_max=quota)
    assert available_threads() == threads


def test_the_strictest_of_the_groups_around_it_counts(machine: Path) -> None:
    write(machine, "0::/a/b\n", a__b__cpu_max="600000 100000", a__cpu_max="300000 100000", cpu_max="max 100000")
    assert available_threads() == 3


@pytest.mark.parametrize(("quota", "threads"), [("250000", 3), ("-1", 8)])
def test_control_groups_of_version_1_count_as_well(machine: Path, quota: str, threads: int) -> None:
    own = "9:memory:/other\n4:cpu,cpuacct:/box\n0::/\n"
    write(machine, own, cpu__box__cpu_cfs_quota_us=quota, cpu__box__cpu_cfs_period_us="100000")
    assert available_threads() == threads
