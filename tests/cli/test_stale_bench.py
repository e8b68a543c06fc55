import csv
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.command import fails, interruptible, run
from tests.tiny import CHANNELS

QUICK = ("--lengths", "16", "--budget", "1")


@pytest.fixture
def work(bundle: Path, tmp_path: Path) -> Path:
    """A folder as a user has it: bundle, features, annotations."""
    shutil.copytree(bundle, tmp_path / "stale_bundle")
    (tmp_path / "feats").mkdir()
    generator = np.random.default_rng(0)
    for name in ("v_a", "v_b"):
        np.save(tmp_path / "feats" / f"{name}.npy", generator.standard_normal((30, CHANNELS)).astype(np.float32))
    rows = [{"label": "polo", "segment": [10, 30]}]
    database = {name: {"duration": 60, "subset": "validation", "annotations": rows} for name in ("a", "b")}
    (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
    return tmp_path


def bench(work: Path, *arguments: str, code: int = 0) -> str:
    done = run("stale-bench", *arguments, cwd=work)
    assert done.returncode == code, done.stderr
    return done.stdout


def measured(work: Path, *arguments: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(bench(work, *QUICK, "--format", "json", *arguments))
    return content


def test_the_card_s_command_prints_a_table(work: Path) -> None:
    backend = "ort-int8" if (work / "stale_bundle" / "localizer.int8.onnx").exists() else "ort-fp32"
    lines = bench(work, "--backend", backend, "--lengths", "100", "200", "--budget", "2").splitlines()
    assert lines[0].split()[:2] == ["backend", "T"]
    assert [line.split()[:2] for line in lines[2:4]] == [[backend, "100"], [backend, "200"]]
    assert any("features: random" in line for line in lines)


def test_json_has_the_documented_shape(work: Path) -> None:
    content = measured(work, "--backend", "ort-fp32")
    assert content["complete"] is True
    (row,) = content["rows"]
    assert (row["backend"], row["length"], row["batch"], row["threads"], row["classes"]) == ("ort-fp32", 16, 1, 1, 3)
    stages = {"import", "load", "prompts_cold", "prompts_warm", "resample", "forward", "decode", "end_to_end"}
    assert row["stages"].keys() == stages
    for stage in row["stages"].values():
        assert len(stage["samples_ms"]) == stage["n"] == sum(stage["per_launch"])
    assert row["map"] is None
    assert row["int8_share"] == 0
    assert row["rss_rise_mb"] < row["peak_rss_mb"]
    manifest = (work / "stale_bundle" / "manifest.json").read_bytes()
    assert content["bundle_sha256"] == hashlib.sha256(manifest).hexdigest()
    assert content["protocol"]["inputs"].startswith("random")


def test_files_are_written_and_compared(work: Path) -> None:
    printed = bench(work, *QUICK, "--backend", "ort-fp32", "-o", "r.json", "--plot", "curves.svg", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(printed))
    content = json.loads((work / "r.json").read_text())
    assert float(row["forward_median_ms"]) == content["rows"][0]["stages"]["forward"]["median_ms"]
    assert (work / "curves.svg").read_text().startswith("<?xml")
    assert "1.000" in bench(work, "--compare", "r.json", "r.json")
    content["machine"]["cpu"] = "another"
    (work / "other.json").write_text(json.dumps(content))
    fails("stale-bench", "--compare", "r.json", "other.json", cwd=work, code=1, says="machine.cpu is")
    assert "1.000" in bench(work, "--compare", "r.json", "other.json", "--despite", "machine.cpu")


def test_map_is_that_of_stale_eval(work: Path) -> None:
    content = measured(
        work, "--backend", "ort-fp32", "--features", "feats", "--ground-truth", "gt.json", "--subset", "validation"
    )
    (row,) = content["rows"]
    assert row["map_change"] == 0
    assert content["protocol"]["inputs"] == "2 feature files"
    (work / "classes.txt").write_text("long jump\narchery\npolo\n")
    run(
        "stale-run", "feats", "--prompts", "classes.txt", "--durations", "gt.json", "--backend", "ort-fp32",
        "--length", "16", "--format", "json", "-o", "det.json", cwd=work,
    )  # fmt: skip
    done = run("stale-eval", "det.json", "--ground-truth", "gt.json", "--format", "json", cwd=work)
    expected = json.loads(done.stdout)
    assert row["map"] == {"average": expected["average"], **expected["per_tiou"]}


def test_new_prompts_are_measured_too(work: Path, private_cache: Path) -> None:
    (work / "p.txt").write_text("snooker\ncurling\n")
    (row,) = measured(work, "--backend", "ort-fp32", "--prompts", "p.txt")["rows"]
    assert row["classes"] == 2
    assert list(private_cache.iterdir()) == []  # the user's cache is as it was


def test_an_interruption_prints_what_is_done(work: Path) -> None:
    command = [str(Path(sys.executable).parent / "stale-bench"), "--backend", "ort-fp32", "--budget", "100"]
    with subprocess.Popen(
        [*command, "-o", "r.json"],
        cwd=work,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=interruptible,
    ) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        end = time.monotonic() + 30
        while not children.read_text().split() and time.monotonic() < end:
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Interrupted: this is what had been measured by then." in out
    assert "Traceback" not in err
    assert json.loads((work / "r.json").read_text())["complete"] is False


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("--backend ort-int4", 2, "'ort-int4' is not one of 'upstream-fp32'"),
        ("--lengths 0", 2, "expected 16 to 4096 snippets"),
        ("--lengths 100 100000", 2, "expected 16 to 4096 snippets"),
        ("--lengths soon", 2, "expected 16 to 4096 snippets"),
        ("--bundle nowhere", 4, "no bundle: looked in --bundle nowhere"),
        ("--bundle broken", 4, "localizer.fp32.onnx: changed since it was exported"),
        ("--features feats --ground-truth other.json", 3, "no video in common"),
        ("--features feats --ground-truth nowhere.json", 3, "nowhere.json: No such file"),
        ("--features nowhere", 3, "--features nowhere: no such folder"),
        ("--features bad", 3, "not a .npy file"),
        ("--ground-truth gt.json", 2, "--ground-truth without --features"),
        ("--subset validation", 2, "--subset without --ground-truth"),
        ("--prompts nowhere.txt", 3, "nowhere.txt: No such file"),
        ("--prompts long.txt", 3, "long.txt, line 2"),
        ("-o nowhere/r.json", 2, "-o nowhere/r.json: there is no folder nowhere"),
        ("-o feats", 2, "-o feats: a folder"),
        ("--plot nowhere/c.png", 2, "--plot nowhere/c.png: there is no folder"),
        ("--plot c.bmp", 2, "expected a name that ends in .png or .svg"),
        ("--threads 9999", 1, "--threads 9999 needs as many CPUs"),
        ("--backend ort-fp32 --baseline upstream-fp32", 2, "is not among the backends measured"),
        ("--compare gt.json gt.json", 3, "not a result of stale-bench"),
        ("--compare nowhere.json gt.json", 3, "nowhere.json: No such file"),
        ("--compare gt.json gt.json --lengths 100", 2, "--compare measures nothing, so leave out --lengths"),
        ("--despite machine", 2, "--despite belongs to --compare"),
        ("--budget 0", 2, "--budget"),
        ("--lengths 100 --budget 5 thesis", 2, "options of thesis stand behind it"),
        ("thesis --bundle nowhere", 4, "no bundle"),
        ("thesis -o nowhere/r.json", 2, "there is no folder"),
    ],
)
def test_what_cannot_be_measured_is_found_out_before(work: Path, arguments: str, code: int, says: str) -> None:
    shutil.copytree(work / "stale_bundle", work / "broken")
    graph = work / "broken" / "localizer.fp32.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    (work / "bad").mkdir()
    (work / "bad" / "v_a.npy").write_bytes(b"nonsense")
    (work / "other.json").write_text((work / "gt.json").read_text().replace('"a"', '"c"').replace('"b"', '"d"'))
    (work / "long.txt").write_text("polo\n" + "abc " * 60)
    fails("stale-bench", *arguments.split(), cwd=work, code=code, says=says)


@pytest.mark.slow
def test_the_thesis_and_all_that_can_run(work: Path) -> None:
    printed = bench(work, "thesis", "--lengths", "16", "--seeds", "1", "-o", "t.json")
    assert "upstream-int8 s" in printed
    original, *ours = json.loads((work / "t.json").read_text())["rows"]
    assert original["backend"] == "upstream-int8"
    assert len(original["stages"]["forward"]["per_launch"]) == 1
    assert all(row["stages"]["forward"]["median_ms"] < original["stages"]["forward"]["median_ms"] for row in ours)
    content = measured(work, "--backend", "all")
    assert {row["backend"] for row in content["rows"]} >= {"upstream-fp32", "upstream-int8", "ort-fp32"}
    assert not {row["backend"] for row in content["rows"]} & content["unavailable"].keys()
    assert all(row["error"] is None for row in content["rows"])


def test_a_soak_shows_that_nothing_grows(work: Path) -> None:
    lines = bench(work, "soak", "--videos", "200", "--length", "16").splitlines()
    assert [line.split("  ")[0] for line in lines[2:5]] == [
        "videos a second",
        "videos a CPU second",
        "resident memory, MB",
    ]
    assert lines[6] == "200 videos of 16 to 3,000 snippets in 20 rounds of 10."
    assert lines[8].endswith("Detections unlike those of the first time: 0.")
    assert lines[9].startswith("Speed at the end beside 5 new processes, in turns: ")


def test_a_soak_that_cannot_be_run_says_why(work: Path) -> None:
    fails("stale-bench", "soak", "--videos", "10", cwd=work, code=2, says="--videos")
    fails("stale-bench", "soak", "--bundle", "no", cwd=work, code=4, says="no bundle")
    fails("stale-bench", "--seed", "1", "soak", cwd=work, code=2, says="options of soak stand behind it")
