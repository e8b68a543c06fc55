import errno
import os

import pytest

from stale_bench.measuring.machine import choose_cpus, describe_machine, describe_versions
from stale_runtime.errors import BenchmarkError


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The CPUs that this process may run on, as a set to change."""
    cpus = {2, 5, 7}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: cpus, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda _pid, _mask: None, raising=False)
    return cpus


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(("threads", "cpus"), [(1, (7,)), (2, (5, 7)), (3, (2, 5, 7))])
def test_the_last_allowed_cpus_are_taken(threads: int, cpus: tuple[int, ...]) -> None:
    assert choose_cpus(threads) == cpus


@pytest.mark.usefixtures("allowed")
def test_too_few_cpus_are_an_error_that_names_them() -> None:
    with pytest.raises(BenchmarkError, match=r"--threads 4 needs 4 CPUs, but this process may run on 3 \(2, 5, 7\)"):
        choose_cpus(4)


def test_no_cpu_allowed_is_an_error(allowed: set[int]) -> None:
    allowed.clear()
    with pytest.raises(BenchmarkError, match=r"may run on 0 \(none\)"):
        choose_cpus(1)


@pytest.mark.usefixtures("allowed")
def test_a_cpu_that_cannot_be_chosen_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int, _mask: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    with pytest.raises(BenchmarkError, match="cannot be kept on CPU 7: Operation not permitted"):
        choose_cpus(1)


def test_a_system_that_cannot_pin_pins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    assert choose_cpus(1) == ()


def test_choosing_leaves_the_affinity_as_it_was() -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system cannot pin")
    before = os.sched_getaffinity(0)
    choose_cpus(1)
    assert os.sched_getaffinity(0) == before


def test_the_machine_is_described() -> None:
    machine = describe_machine(choose_cpus(1))
    assert machine.keys() == {"cpu", "flags", "cores", "affinity", "governor", "memory_gb", "system"}
    assert machine["cpu"]
    assert machine == describe_machine(choose_cpus(1))


def test_versions_are_of_what_is_installed() -> None:
    versions = describe_versions(["hypothesis", "no-such-package"])
    assert versions.keys() >= {"python", "stale-edge", "numpy", "onnxruntime", "hypothesis"}
    assert "no-such-package" not in versions
    assert "torch" not in versions
