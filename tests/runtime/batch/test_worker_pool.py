import os
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import stale_bench  # noqa: F401 -- its errors are among those that are tested
from stale_runtime.batch.worker_pool import MOST_STARTS, WorkerPool
from stale_runtime.errors import BundleError, StaleError, WorkerError
from tests.runtime.batch.odd_work import OddWork


def singles(*items: str) -> list[list[str]]:
    return [[item] for item in items]


def process(groups: Sequence[Sequence[str]], *, opening: str = "fine", workers: int = 2) -> list[str]:
    with WorkerPool(OddWork(opening), workers=workers) as pool:
        return list(pool.process(groups))


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A pipe at which one item waits until another one frees it."""
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


def test_results_come_in_order_and_each_is_handed_over_as_soon_as_it_is_there(gate: Path) -> None:
    waiting, freeing = f"waits-at {gate}", f"frees {gate}"
    done: list[str] = []
    with WorkerPool(OddWork(), workers=2) as pool:
        items = singles(waiting, "a", "b", "c", freeing, "d")
        found = list(pool.process(items, on_done=lambda item, _: done.append(item)))
    assert found == [waiting.upper(), "A", "B", "C", freeing.upper(), "D"]
    assert done[:3] == ["a", "b", "c"]
    assert sorted(done) == sorted(item for (item,) in items)


def test_no_more_is_begun_than_the_look_ahead(gate: Path) -> None:
    done: list[str] = []
    with WorkerPool(OddWork(), workers=2, look_ahead=4) as pool:
        items = singles(f"waits-at {gate}", "a", "b", f"frees {gate}", "c", "d")
        list(pool.process(items, on_done=lambda item, _: done.append(item)))
    assert done.index("c") > done.index(f"waits-at {gate}")


def test_of_groups_no_more_is_asked_for_than_needed(gate: Path) -> None:
    asked = 0

    def groups() -> Iterator[list[str]]:
        nonlocal asked
        for item in (f"waits-at {gate}", "a", "b", f"frees {gate}", *"cdefghijkl"):
            asked += 1
            yield [item]

    with WorkerPool(OddWork(), workers=2, look_ahead=4) as pool:
        next(pool.process(groups()))
    assert asked <= 4 + 2


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("killed", "WorkerError: killed: the process that worked on it was ended by SIGKILL, as the system does if"),
        ("ends", "WorkerError: ends: the process that worked on it ended with exit code 3; run it again alone"),
        ("stuck", "TimeLimitError: stuck: took longer than the limit of 0.01 s"),
    ],
)
def test_a_worker_that_ends_costs_the_item_that_it_had_in_hand(item: str, says: str) -> None:
    found = process(singles("a", "b", item, "c", "d", item, "e"))
    assert [found[n] for n in (0, 1, 3, 4, 6)] == list("ABCDE")
    assert found[2].startswith(says)
    assert found[5].startswith(says)


def test_what_one_item_of_a_group_does_costs_no_other() -> None:
    found = process([["a", "b", "killed", "c"], ["d", "e"]])
    assert found[:2] == ["A", "B"]
    assert found[2].startswith("WorkerError: killed: ")
    assert found[3:] == ["C", "D", "E"]


def test_what_a_killed_worker_left_is_removed() -> None:
    removed = []
    with WorkerPool(OddWork(), workers=2, clean_up=lambda: removed.append(1)) as pool:
        list(pool.process(singles("a", "killed", "b")))
    assert removed == [1]


@pytest.mark.parametrize(
    ("opening", "says"),
    [("killed", "the last one was ended by SIGKILL"), ("ends", "the last one ended with exit code 3")],
)
def test_workers_that_end_while_they_start_are_not_replaced_for_ever(opening: str, says: str) -> None:
    with pytest.raises(WorkerError, match=f"{MOST_STARTS} processes in a row ended before they were ready, {says}"):
        process(singles("a", "b", "c"), opening=opening)


def test_what_a_worker_raises_ends_the_run() -> None:
    for opening, item in (("raises", "a"), ("fine", "raises")):
        with pytest.raises(BundleError, match=r"^bundle: broken; copy it again"):
            process(singles("a", item, "b"), opening=opening)
    with pytest.raises(RuntimeError, match="LocalError: of this process only"):
        process(singles("raises-what-cannot-be-sent"))


def test_nothing_is_begun_after_the_last_item_that_is_wanted() -> None:
    done: list[str] = []
    with WorkerPool(OddWork(), workers=1) as pool:
        groups = singles("a", "b", "bad", *map(str, range(50)))
        found = pool.process(groups, on_done=lambda item, _: done.append(item), is_last=lambda result: result == "BAD")
        assert list(found) == ["A", "B", "BAD"]
    assert len(done) <= 4


def all_errors(kind: type[StaleError] = StaleError) -> Iterator[type[StaleError]]:
    yield kind
    for other in kind.__subclasses__():
        yield from all_errors(other)


@pytest.mark.parametrize("kind", sorted(set(all_errors()), key=str))
def test_every_error_arrives_as_it_was_sent(kind: type[StaleError]) -> None:
    error = pickle.loads(pickle.dumps(kind("a.npy: broken; copy it again")))
    assert (type(error), str(error), error.exit_code) == (kind, "a.npy: broken; copy it again", kind.exit_code)
