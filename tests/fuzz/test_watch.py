import json
import subprocess
import sys
from pathlib import Path

import pytest

from stale_runtime.errors import DatasetError, PromptError
from tests.fuzz.child import Plan
from tests.fuzz.run import ROOT, fuzz_target
from tests.fuzz.watch import Watch

PLAN = Plan(target="", engine="seeded", inputs=20, seconds=60, seed=0, work="", corpus="", findings="")


def test_results_and_our_errors_are_no_findings(tmp_path: Path) -> None:
    def run(data: bytes) -> object:
        if data == b"bad":
            raise PromptError("no prompts")
        return None if data == b"absent" else data

    watch = Watch(run, tmp_path)
    assert [watch.feed(data) for data in (b"", b"bad", b"absent")] == [None, None, None]
    assert (watch.tally.inputs, watch.tally.results, watch.tally.refused) == (3, 1, 2)
    assert list(tmp_path.iterdir()) == []


def test_another_exception_is_a_finding_whose_first_input_is_kept(tmp_path: Path) -> None:
    def run(data: bytes) -> object:
        return dict[bytes, object]()[data]

    watch = Watch(run, tmp_path / "kept")
    assert watch.feed(b"first") == watch.feed(b"second")
    ((problem, path),) = watch.tally.findings.items()
    assert problem.startswith("KeyError at test_watch.py:")
    assert Path(path).read_bytes() == b"first"
    assert watch.tally.inputs == 2


def test_asking_for_too_much_memory_is_a_finding_even_where_the_reader_refuses(tmp_path: Path) -> None:
    def run(_: bytes) -> object:
        try:
            raise MemoryError
        except MemoryError:
            raise DatasetError("refused") from None

    assert "bytes wanted" in (Watch(run, tmp_path).feed(b"") or "")


@pytest.mark.parametrize(("times", "found"), [((9.0, 9.0, 9.0), True), ((9.0, 0.1, 9.0), False)])
def test_an_input_that_is_slow_every_time_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: tuple[float, ...], found: bool
) -> None:
    clock = iter([moment for n, taken in enumerate(times) for moment in (100.0 * n, 100.0 * n + taken)])
    monkeypatch.setattr("tests.fuzz.watch.time.perf_counter", lambda: next(clock))
    watch = Watch(lambda data: data, tmp_path)
    assert (watch.feed(b"") == "slower than 2.0 s") is found
    assert watch.tally.slowest_ms == pytest.approx(1000 * min(times))


@pytest.mark.parametrize(
    ("reader", "inputs", "problem"),
    [("wrong", 20, "KeyError at failing.py:"), ("greedy", 20, "bytes wanted"), ("crashing", 1, "ended with code -6")],
)
def test_what_a_reader_does_in_a_process_of_its_own_is_found(
    tmp_path: Path, reader: str, inputs: int, problem: str
) -> None:
    tally, _ = fuzz_target(PLAN, f"tests.fuzz.failing:{reader}", kept=tmp_path)
    assert tally.inputs >= inputs
    ((found, path),) = tally.findings.items()
    assert problem in found
    assert Path(path).read_bytes() == b"3"


def test_the_command_ends_with_a_table() -> None:
    command = [sys.executable, "-m", "tests.fuzz.run", "prompts", "--inputs", "40", "--engine", "seeded"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    row = done.stdout.splitlines()[-1].split()
    assert row[:2] == ["prompts", "40"]
    assert int(row[2]) + int(row[3]) == 40
    assert row[-1] == "0"


def test_a_file_is_replayed(tmp_path: Path) -> None:
    (tmp_path / "found").write_text(json.dumps({"database": 3}))
    command = [sys.executable, "-m", "tests.fuzz.run", "truth", "--replay", str(tmp_path / "found")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("truth: refused in 0.")
