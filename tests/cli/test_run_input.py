"""What ``stale-run`` takes as features, class names and options, and what it says of what it does not."""

import json
import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.cli import command
from tests.cli.same_process import fails, run
from tests.tiny import CHANNELS, CLASSES


def test_one_bad_file_does_not_cost_the_others(work: Path) -> None:
    (work / "features" / "v_bad.npy").write_bytes(b"nonsense")
    done = command.run("stale-run", "features", "--prompts", "classes.txt", "--format", "json", cwd=work)
    assert done.returncode == 5
    assert list(json.loads(done.stdout)["results"]) == ["a", "b", "c"]
    assert "v_bad.npy: not a .npy file" in done.stderr
    assert "1 of 4 videos failed" in done.stderr


def test_all_bad_files_are_bad_input(work: Path) -> None:
    for path in (work / "features").iterdir():
        path.write_bytes(b"")
    done = run("stale-run", "features", "--prompts", "classes.txt", "-o", "out.csv", "--format", "csv", cwd=work)
    assert done.returncode == 3
    assert "all 3 videos failed" in done.stderr
    assert not (work / "out.csv").exists()


def bad_features(kind: str, path: Path) -> None:
    good = np.zeros((5, CHANNELS), np.float32)
    arrays: dict[str, NDArray[np.generic]] = {
        "transposed": np.zeros((CHANNELS, 100), np.float32),
        "width": np.zeros((5, 7), np.float32),
        "nan": np.full((5, CHANNELS), np.nan, np.float32),
        "infinite": np.full((5, CHANNELS), np.inf, np.float16),
        "zero-length": np.zeros((0, CHANNELS), np.float32),
        "integers": np.zeros((5, CHANNELS), np.int64),
        "three axes": np.zeros((2, 5, CHANNELS), np.float32),
    }
    if kind in arrays:
        np.save(path, arrays[kind])
    elif kind == "objects":
        np.save(path, np.array([[object()]], dtype=object), allow_pickle=True)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(good))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        np.save(path, good)
        path.write_bytes(path.read_bytes()[:-10])
    elif kind == "npz":
        np.savez(path.with_suffix(".npz"), good, fps=25)
        path.with_suffix(".npz").rename(path)
    else:
        assert kind == "missing"


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("transposed", "features.T"),
        ("width", "expected (snippets, 16)"),
        ("nan", "NaN or infinity"),
        ("infinite", "NaN or infinity"),
        ("zero-length", "0 snippets"),
        ("integers", "int64"),
        ("three axes", "shape (2, 5, 16)"),
        ("objects", "pickled objects"),
        ("pickle", "a pickle, which is never loaded"),
        ("empty", "not a .npy file"),
        ("truncated", "truncated"),
        ("npz", ".npz archive of 2 arrays"),
        ("missing", "No such file"),
    ],
)
def test_bad_features_end_with_one_line(work: Path, kind: str, says: str) -> None:
    bad_features(kind, work / "bad.npy")
    arguments = ("bad.npy", "--prompts", "classes.txt", "--format", "json", "-o", "out.json")
    fails("stale-run", *arguments, cwd=work, code=3, says=says)
    assert not (work / "out.json").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no prompts"),
        (b"# only\n\n", "no prompts"),
        (b"polo\narchery\nPolo\n", "line 3: duplicate"),
        (b"a\n" + b" ".join([b"word"] * 60) + b"\n", "line 2"),
        (b"polo\n\x00\x01\n", "line 2: a binary file"),
        (b"polo\n\xff\xfe\n", "line 2: not UTF-8"),
    ],
)
def test_bad_prompts_end_with_one_line(work: Path, content: bytes, says: str) -> None:
    (work / "classes.txt").write_bytes(content)
    fails("stale-run", "v_one.npy", "--prompts", "classes.txt", cwd=work, code=3, says=says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--prompts", "classes.txt"], "no INPUT"),
        (["v_one.npy"], "no --prompts"),
        (["v_one.npy", "--prompts", "classes.txt", "--fps", "25"], "--stride"),
        (["v_one.npy", "--prompts", "classes.txt", "--fps", "25", "--stride", "16", "--duration", "3"], "exclude"),
        (["features", "--prompts", "classes.txt", "--duration", "3"], "single video"),
        (["features", "--prompts", "classes.txt", "--format", "srt"], "single video"),
        (["features", "--prompts", "classes.txt", "-o", "all.srt"], "--format srt holds a single video"),
        (["rtsp://camera/stream", "--prompts", "classes.txt"], "an address, expected a file"),
        (["v_one.npy", "--prompts", "classes.txt", "--format", "srt"], "seconds"),
        (["v_one.npy", "--prompts", "classes.txt", "-o", "no/such/folder/x"], "no folder"),
        (["v_one.npy", "--prompts", "classes.txt", "-o", "features"], "a folder"),
        (["v_one.npy", "--prompts", "classes.txt", "--backend", "tpu"], "ort-fp32"),
        (["v_one.npy", "--prompts", "classes.txt", "--length", "5000"], "4096"),
        (
            ["v_one.npy", "--prompts", "classes.txt", "--length", "long"],
            "'long', expected 16 to 4096 snippets, or auto",
        ),
        (["v_one.npy", "--prompts", "classes.txt", "--window", "0"], "'0', expected 64 to 4096 snippets, auto or off"),
        (["v_one.npy", "--prompts", "classes.txt", "--window", "x"], "'x', expected 64 to 4096 snippets, auto or off"),
        (["v_one.npy", "--prompts", "classes.txt", "--window", "5000"], "'5000', expected 64 to 4096 snippets"),
        (["v_one.npy", "--prompts", "classes.txt", "--max-detections", "0"], "0 is not in the range"),
        (["v_one.npy", "--prompts", "classes.txt", "--classes-per-video", "0"], "0 is not in the range"),
        (["v_one.npy", "--prompts", "classes.txt", "--nonsense"], "--nonsense"),
        (["v_one.npy", "--prompts", "classes.txt", "--external-mode", "always"], "give the file of labels"),
        (["v_one.npy", "--prompts", "classes.txt", "--external-mode", "never"], "'surer', 'always'"),
    ],
)
def test_wrong_usage_ends_with_one_line(work: Path, arguments: list[str], says: str) -> None:
    fails("stale-run", *arguments, cwd=work, code=2, says=says)


def test_a_missing_or_broken_bundle_is_code_4(work: Path) -> None:
    arguments = ("v_one.npy", "--prompts", "classes.txt")
    (work / "stale_bundle" / "extra").write_text("")
    fails("stale-run", *arguments, cwd=work, code=4, says="'extra' is not in the manifest")
    (work / "stale_bundle" / "extra").unlink()
    (work / "stale_bundle" / "tokenizer.json").unlink()
    fails("stale-run", *arguments, cwd=work, code=4, says="tokenizer.json is missing")
    shutil.rmtree(work / "stale_bundle")
    fails("stale-run", *arguments, cwd=work, code=4, says="make one with stale-export")


def test_a_video_without_a_duration_is_named(work: Path) -> None:
    (work / "d.csv").write_text("video,seconds\na,10\nv_b,20\n")
    done = run("stale-run", "features", "--prompts", "classes.txt", "--durations", "d.csv", "--format", "csv", cwd=work)
    assert done.returncode == 5
    assert "video c: not in the file of durations" in done.stderr


def test_one_path_that_cannot_be_read_does_not_cost_the_others(work: Path) -> None:
    paths = ["v_one.npy", "features", "features/v_a.npy/x.npy", f"{'x' * 300}.npy", "no.npy"]
    done = run("stale-run", *paths, "--prompts", "classes.txt", "--report", "r.json", cwd=work)
    assert done.returncode == 5, done.stderr
    report = json.loads((work / "r.json").read_text())
    assert report["counts"] == {"videos": 7, "ok": 4, "failed": 3, "skipped": 0, "resumed": 0}
    said = [video["message"].rpartition(": ")[2] for video in report["videos"] if video["status"] == "failed"]
    assert said == ["Not a directory", "File name too long", "No such file or directory"]


def test_one_output_cannot_be_two_things(work: Path) -> None:
    arguments = ("features", "--prompts", "classes.txt", "-o", "o.json", "--report")
    for report in ("o.json", "features/../o.json", "o.json.partial.jsonl"):
        fails("stale-run", *arguments, report, cwd=work, code=2, says="the same file, or its journal; give two")


@pytest.mark.parametrize("option", ["--duration", "--fps"])
@pytest.mark.parametrize("value", ["nan", "inf", "1e308", "0", "-1"])
def test_a_number_that_is_none_is_wrong_usage(work: Path, option: str, value: str) -> None:
    stride = ["--stride", "16"] if option == "--fps" else []
    arguments = ("v_one.npy", "--prompts", "classes.txt", option, value, *stride)
    fails("stale-run", *arguments, cwd=work, code=2, says="is not in the range")


def test_class_names_may_stand_on_the_command_line(work: Path) -> None:
    given = run("stale-run", "v_one.npy", "--prompts", "classes.txt", "--format", "csv", cwd=work)
    names = [part for name in CLASSES for part in ("--prompt", name)]
    assert run("stale-run", "v_one.npy", *names, "--format", "csv", cwd=work).stdout == given.stdout
    mistake = ("v_one.npy", "--prompts", "Long jump, Archery")
    says = (
        "no such file, expected one with one class name per line; to give names themselves: --prompt 'Long jump' --pro"
    )
    fails("stale-run", *mistake, cwd=work, code=3, says=says)
    fails(
        "stale-run", "v_one.npy", "--prompts", "classes.txt", "--prompt", "a", cwd=work, code=2, says="write all names"
    )
    fails("stale-run", "-", "--prompts", "-", cwd=work, code=2, says="both would read standard input")


def test_names_are_read_from_a_pipe(work: Path) -> None:
    given = run("stale-run", "v_one.npy", "--prompts", "classes.txt", "--format", "csv", cwd=work)
    reading, writing = os.pipe()
    os.write(writing, (work / "classes.txt").read_bytes())
    os.close(writing)
    piped = run("stale-run", "v_one.npy", "--prompts", f"/dev/fd/{reading}", "--format", "csv", cwd=work)
    os.close(reading)
    assert piped.stdout == given.stdout


def test_a_fraction_is_a_frame_rate(work: Path) -> None:
    options = ("--prompts", "classes.txt", "--stride", "16", "--format", "csv")
    fraction = run("stale-run", "v_one.npy", *options, "--fps", "30000/1001", cwd=work)
    assert fraction.returncode == 0
    assert fraction.stdout == run("stale-run", "v_one.npy", *options, "--fps", str(30000 / 1001), cwd=work).stdout


def test_every_kind_of_feature_file_gives_the_same_and_what_is_ignored_is_said(work: Path) -> None:
    features = np.load(work / "v_one.npy")
    folder = work / "kinds"
    folder.mkdir()
    np.save(folder / "plain.npy", features)
    (folder / "plain.npy").rename(folder / "plain.NPY")
    np.savez_compressed(folder / "packed.npz", features)
    np.save(folder / "squeezed.npy", features[None])
    (folder / "other.pt").touch()
    done = run("stale-run", "kinds", "--prompts", "classes.txt", "--format", "jsonl", cwd=work)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["video"] for row in rows] == ["packed", "plain", "squeezed"]
    assert rows[0]["detections"] == rows[1]["detections"] == rows[2]["detections"]
    assert "kinds: 1 other file (1 .pt) ignored" in done.stderr
    assert re.search(r"squeezed\.npy: shape \(1, \d+, \d+\) is taken as", done.stderr)
