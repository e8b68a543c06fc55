"""``stale-run -``: snippets on standard input, as a user pipes them."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.cli.command import interruptible
from tests.cli.same_process import fails
from tests.tiny import CHANNELS, CLASSES

SNIPPETS, EARLIER = 2000, 1500
"""Of the stream, and of its first part, in which some detections are final."""
COMMAND = (str(Path(sys.executable).parent / "stale-run"), "-", "--prompts", "classes.txt", "--window", "256")
RAW = ("--width", str(CHANNELS))


def draw(snippets: int = SNIPPETS) -> NDArray[np.float32]:
    """Scenes of 50 snippets each."""
    dice = np.random.default_rng(0)
    scenes = dice.standard_normal((snippets // 50 + 1, CHANNELS)).repeat(50, axis=0)[:snippets]
    return np.asarray(scenes + 0.5 * dice.standard_normal((snippets, CHANNELS)), "<f4")


def npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def work(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundle, the prompts and a long video; read-only by convention."""
    folder = tmp_path_factory.mktemp("stream")
    shutil.copytree(bundle, folder / "stale_bundle")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    np.save(folder / "video.npy", draw())
    return folder


def pipe(work: Path, data: bytes, *options: str) -> "subprocess.CompletedProcess[bytes]":
    done = subprocess.run([*COMMAND, *options], cwd=work, input=data, capture_output=True, timeout=120, check=False)
    assert b"Traceback" not in done.stderr
    return done


def parse(lines: bytes) -> list[dict[str, Any]]:
    assert lines == b"" or lines.endswith(b"\n")
    return [json.loads(line) for line in lines.splitlines()]


def rows_of(found: list[dict[str, Any]]) -> list[tuple[str, float, float, float]]:
    return sorted((row["label"], row["start"], row["end"], row["score"]) for row in found)


@pytest.fixture(scope="module")
def streamed(work: Path) -> list[dict[str, Any]]:
    """The detections in the whole stream."""
    done = pipe(work, draw().tobytes(), *RAW, "--fps", "25", "--stride", "5")
    assert (done.returncode, done.stderr) == (0, b"")
    return parse(done.stdout)


@contextmanager
def started(work: Path, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A command that waits for its input."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*COMMAND, *RAW, *options], cwd=work, stdin=pipe, stdout=pipe, stderr=pipe, preexec_fn=interruptible
    ) as process:
        watch = threading.Timer(100, process.kill)  # a test that hangs fails
        watch.start()
        try:
            yield process
        finally:
            watch.cancel()
            process.kill()


def test_a_stream_gives_what_the_file_gives(work: Path, streamed: list[dict[str, Any]]) -> None:
    command = [COMMAND[0], "video.npy", *COMMAND[2:], "--fps", "25", "--stride", "5", "--format", "json"]
    done = subprocess.run(command, cwd=work, capture_output=True, timeout=120, check=True)
    content = json.loads(done.stdout)
    assert content["run"]["window"] == 256
    expected = [{**row, "start": row["segment"][0], "end": row["segment"][1]} for row in content["results"]["video"]]
    assert len(streamed) == len(expected) > 100
    for row, other in zip(rows_of(streamed), rows_of(expected), strict=True):
        assert (row[0], row[3]) == (other[0], other[3])
        assert row[1:3] == pytest.approx(other[1:3])
    assert all(row.keys() == {"label", "start", "end", "score", "unit"} for row in streamed)
    assert {row["unit"] for row in streamed} == {"seconds"}


@pytest.mark.parametrize("dtype", ["<f4", ">f8"])
def test_a_npy_stream_gives_the_same(work: Path, streamed: list[dict[str, Any]], dtype: str) -> None:
    done = pipe(work, npy(draw().astype(dtype)), "--fps", "25", "--stride", "5", "--format", "jsonl")
    assert (done.returncode, done.stderr) == (0, b"")
    assert parse(done.stdout) == streamed


def test_without_times_they_are_in_snippets(work: Path, streamed: list[dict[str, Any]]) -> None:
    found = parse(pipe(work, draw().tobytes(), *RAW).stdout)
    assert {row["unit"] for row in found} == {"snippets"}
    assert [row["start"] / 5 for row in found] == pytest.approx([row["start"] for row in streamed])


def test_detections_come_out_while_the_stream_pauses(work: Path, streamed: list[dict[str, Any]]) -> None:
    with started(work, "--fps", "25", "--stride", "5") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(draw()[:EARLIER].tobytes()[:-3])  # the last snippet is not complete
        process.stdin.flush()
        first = [json.loads(process.stdout.readline()) for _ in range(20)]
        assert first == streamed[:20]
        process.stdin.write(draw().tobytes()[draw()[:EARLIER].nbytes - 3 :])
        process.stdin.close()
        rest = process.stdout.read()  # not by communicate, which misses what readline has read ahead
        assert process.wait() == 0
        assert [*first, *parse(rest)] == streamed


def test_a_reader_that_leaves_ends_a_stream_that_would_not(work: Path) -> None:
    with started(work) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        data = draw().tobytes()
        process.stdin.write(data)
        process.stdin.flush()
        assert json.loads(process.stdout.readline())
        process.stdout.close()
        while process.poll() is None:
            try:
                process.stdin.write(data)
                process.stdin.flush()
            except BrokenPipeError:
                break
        assert process.wait() == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_stream_after_whole_lines(
    work: Path, streamed: list[dict[str, Any]], number: int, code: int
) -> None:
    with started(work, "--fps", "25", "--stride", "5") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(draw()[:EARLIER].tobytes())
        process.stdin.flush()
        first = process.stdout.readline()
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait() == code
        found = parse(first + rest)
        assert found == streamed[: len(found)]
        assert process.stderr is not None
        said = process.stderr.read().decode().strip()
        assert ("interrupted; " in said and "snippets were read" in said) == (number == signal.SIGINT)
        assert len(said.splitlines()) <= 1


def test_nan_in_the_middle_is_named_and_what_was_found_before_is_out(work: Path) -> None:
    features = draw()
    features[1300, 3] = np.nan
    done = pipe(work, features.tobytes(), *RAW)
    assert done.returncode == 3
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("stale-run: error: snippet 1300 of the stream: NaN or infinity, not within ±1e+06;")
    assert done.stdout == pipe(work, features[:1300].tobytes(), *RAW).stdout != b""


@pytest.mark.parametrize(
    ("data", "options", "says", "snippets"),
    [
        (npy(draw())[:-5], [], "truncated, 1,999 snippets and 59 bytes of the 2,000 snippets", 1999),
        (npy(draw()) + b"x", [], "too long, more than the 2,000 snippets that its header promises", 2000),
        (draw().tobytes()[:-60], RAW, "ended after 4 of the 64 bytes of snippet 1999", 1999),
    ],
)
def test_a_stream_that_ends_wrongly_is_an_error_after_what_was_found(
    work: Path, data: bytes, options: list[str], says: str, snippets: int
) -> None:
    done = pipe(work, data, *options)
    assert done.returncode == 3
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("stale-run: error: stdin: ")
    assert says in line
    assert parse(done.stdout) == parse(pipe(work, draw(SNIPPETS)[:snippets].tobytes(), *RAW).stdout) != []


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        (b"", [], "stdin: empty"),
        (b"", RAW, "stdin: empty"),
        (draw(50).tobytes(), [], "stdin: not a .npy stream, expected an array (snippets, 16)"),
        (draw(50).tobytes(), ["--width", "7"], "--width 7: this bundle was exported for features of width 16"),
        (npy(draw(50)[:, :7]), [], "stdin: shape (50, 7), expected (snippets, 16)"),
        (npy(draw(50).astype(np.int64)), [], "stdin: type int64, expected float16, float32 or float64"),
        (npy(np.asfortranarray(draw(50))), [], "stdin: an array in Fortran order"),
        (npy(draw(50))[:60], [], "stdin: a broken .npy header"),
    ],
)
def test_what_are_no_features_is_one_line(work: Path, data: bytes, options: list[str], says: str) -> None:
    done = pipe(work, data, *options)
    assert (done.returncode, done.stdout) == (3, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"stale-run: error: {says}")


def test_verbose_says_how_late_and_how_much(work: Path) -> None:
    done = pipe(work, draw().tobytes(), *RAW, "-v")
    delay, counts = done.stderr.decode().splitlines()
    assert "windows 256" in delay
    assert "a detection is final at most " in delay
    assert f"{SNIPPETS:,} snippets in " in counts
    assert counts.endswith(f" {len(parse(done.stdout)):,} detections")


@pytest.mark.parametrize("redirected", ["<&-", "< /dev/null"])
def test_no_standard_input_is_an_empty_one(work: Path, redirected: str) -> None:
    done = subprocess.run(
        f"{' '.join(COMMAND)} {redirected}", shell=True, cwd=work, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("stale-run: error: stdin: empty, expected snippet features")


def test_a_terminal_is_no_stream(work: Path) -> None:
    master, slave = os.openpty()
    try:
        done = subprocess.run(COMMAND, cwd=work, stdin=slave, capture_output=True, text=True, timeout=60, check=False)
    finally:
        os.close(master)
        os.close(slave)
    assert done.returncode == 2
    assert "standard input is a terminal; pipe features into it" in done.stderr


def test_an_input_that_would_not_wait_is_waited_for(work: Path, streamed: list[dict[str, Any]]) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    command = [*COMMAND, *RAW, "--fps", "25", "--stride", "5"]
    with subprocess.Popen(command, cwd=work, stdin=reading, stdout=subprocess.PIPE) as process:
        os.close(reading)
        with os.fdopen(writing, "wb") as file:
            file.write(draw().tobytes())
        assert process.stdout is not None
        assert parse(process.stdout.read()) == streamed
        assert process.wait() == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--window", "0"], "'0', expected 64 to 4096 snippets, auto or off"),
        (["--window", "off"], "--window off with -, a stream that is looked at through windows; leave it out"),
        (["-o", "x.jsonl"], "-o with -, a stream whose detections are printed; write > FILE"),
        (["--format", "json"], "--format json with -, a stream whose detections are JSON lines"),
        (["--duration", "5"], "--duration with -, a stream whose end is not known; give --fps with --stride"),
        (["--resume"], "--resume with -"),
        (["--top", "3"], "--top with -"),
        (["--max-detections", "3"], "--max-detections with -"),
        (["--decoder", "upstream", "--window", "auto"], "--decoder upstream with -"),
        (["--length", "32", "--window", "auto"], "--length N without --window N with -"),
        (["video.npy"], "- and another INPUT"),
        (["--fps", "3"], "--fps and --stride belong together"),
    ],
)
def test_options_for_files_are_refused_for_a_stream(work: Path, options: list[str], says: str) -> None:
    fails("stale-run", *COMMAND[1:], *options, cwd=work, code=2, says=says)
    assert not (work / "x.jsonl").exists()


def test_low_scores_can_be_left_out(work: Path, streamed: list[dict[str, Any]]) -> None:
    score = sorted(row["score"] for row in streamed)[len(streamed) // 2]
    kept = parse(pipe(work, npy(draw()), "--min-score", repr(score)).stdout)
    assert sorted(row["score"] for row in kept) == sorted(row["score"] for row in streamed if row["score"] >= score)
    assert 0 < len(kept) < len(streamed)
