from mmap import MAP_ANONYMOUS, MAP_PRIVATE, PAGESIZE, mmap

import pytest

from stale_runtime.commands import worker_count
from stale_runtime.commands.worker_count import count_workers
from stale_runtime.errors import OutOfMemoryError
from stale_runtime.system import memory
from stale_runtime.system.memory import Available, held_bytes

GIGABYTE = 2**30


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight CPUs, and four and a half gigabytes that are left."""
    monkeypatch.setattr(worker_count, "available_threads", lambda: 8)
    monkeypatch.setattr(memory, "available_memory", lambda: Available(4 * GIGABYTE + GIGABYTE // 2, "this machine"))


def count(asked: int | str, *, tasks: int = 100, threads: int = 1, each: int = 1) -> int:
    return count_workers("stale-run", asked, tasks=tasks, threads=threads, each=each)  # type: ignore[arg-type]


def test_auto_gives_each_cpu_a_worker() -> None:
    assert count("auto") == 8
    assert count("auto", threads=3) == 2
    assert count("auto", threads=9) == 1


def test_there_are_no_more_workers_than_tasks() -> None:
    assert (count("auto", tasks=3), count(5, tasks=3), count(5, tasks=1)) == (3, 3, 1)


def test_a_number_is_taken_as_it_is_given() -> None:
    assert count(20) == 20


def test_auto_takes_fewer_where_memory_does_not_suffice_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert count("auto", each=GIGABYTE) == 4
    said = capsys.readouterr().err
    assert "stale-run: 8 workers of at least 1,024 MB of memory each are more than fit" in said
    assert said.endswith("left by this machine; 4 work instead\n")
    assert count("auto", each=5 * GIGABYTE) == 1


def test_a_number_that_does_not_fit_is_refused_with_one_that_does() -> None:
    with pytest.raises(OutOfMemoryError, match=r"--workers 6: 6 workers of at least 1,024 MB .*; give --workers 4, or"):
        count(6, each=GIGABYTE)
    with pytest.raises(OutOfMemoryError, match=r"; leave out --workers, or end other programs"):
        count(2, each=3 * GIGABYTE)


def test_one_worker_is_not_refused_here() -> None:
    assert count(1, each=9 * GIGABYTE) == 1


def test_what_a_process_holds_grows_by_what_it_takes() -> None:
    before = held_bytes()
    with mmap(-1, 50_000_000, flags=MAP_PRIVATE | MAP_ANONYMOUS) as taken:  # new memory, not some that was freed
        for place in range(0, len(taken), PAGESIZE):
            taken[place] = 1
        assert held_bytes() - before > 40_000_000
