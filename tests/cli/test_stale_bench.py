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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stale_bench.bench_command import main
from tests.cli.command import fails, interruptible, run
from tests.tiny import CHANNELS

QUICK = ("--lengths", "16", "--budget", "1")


@pytest.fixture
def work(bundle: Path, tmp_path: Path) -> Path:
    """A folder as a user has it: bundle, features, annotations."""
    return fill(tmp_path, bundle)


def fill(folder: Path, bundle: Path) -> Path:
    shutil.copytree(bundle, folder / "stale_bundle")
    (folder / "feats").mkdir()
    generator = np.random.default_rng(0)
    for name in ("v_a", "v_b"):
        np.save(folder / "feats" / f"{name}.npy", generator.standard_normal((30, CHANNELS)).astype(np.float32))
    rows = [{"label": "polo", "segment": [10, 30]}]
    database = {name: {"duration": 60, "subset": "validation", "annotations": rows} for name in ("a", "b")}
    (folder / "gt.json").write_text(json.dumps({"database": database}))
    return folder


@dataclass(frozen=True)
class Here:
    """Runs the command in this process."""

    patch: pytest.MonkeyPatch
    streams: pytest.CaptureFixture[str]

    def run(self, work: Path, *arguments: str) -> tuple[object, str, str]:
        """Exit code, stdout and stderr."""
        self.patch.chdir(work)
        self.patch.setattr(sys, "argv", ["stale-bench", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code, *self.streams.readouterr())


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(monkeypatch, capsys)


def bench(work: Path, *arguments: str, code: int = 0) -> str:
    done = run("stale-bench", *arguments, cwd=work)
    assert done.returncode == code, done.stderr
    return done.stdout


def measured(work: Path, *arguments: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(bench(work, *QUICK, "--format", "json", *arguments))
    return content


def test_the_card_s_command_prints_a_table(work: Path) -> None:
    backend = "ort-int8" if (work / "stale_bundle" / "localizer.int8.onnx").exists() else "ort-fp32"
    lines = bench(work, "--backend", backend, "--lengths", "100", "200", "--budget", "1").splitlines()
    assert lines[0].split()[:2] == ["backend", "T"]
    assert [line.split()[:2] for line in lines[2:4]] == [[backend, "100"], [backend, "200"]]
    assert any("features: random" in line for line in lines)


@pytest.fixture(scope="module")
def measured_work(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``work`` has after a benchmark with all kinds of output; what it printed is ``printed.csv``."""
    folder = fill(tmp_path_factory.mktemp("measured"), bundle)
    outputs = ("-o", "r.json", "-o", "r.html", "--plot", "c.svg")
    printed = bench(folder, *QUICK, "--backend", "ort-fp32", *outputs, "--format", "csv")
    (folder / "printed.csv").write_text(printed)
    return folder


def test_json_has_the_documented_shape(measured_work: Path) -> None:
    content = json.loads((measured_work / "r.json").read_text())
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
    manifest = (measured_work / "stale_bundle" / "manifest.json").read_bytes()
    assert content["bundle_sha256"] == hashlib.sha256(manifest).hexdigest()
    assert content["protocol"]["inputs"].startswith("random")


def test_what_is_printed_and_drawn_is_what_is_written(measured_work: Path) -> None:
    (row,) = csv.DictReader(io.StringIO((measured_work / "printed.csv").read_text()))
    content = json.loads((measured_work / "r.json").read_text())
    assert float(row["forward_median_ms"]) == content["rows"][0]["stages"]["forward"]["median_ms"]
    assert (measured_work / "c.svg").read_text().startswith("<?xml")


def test_files_are_compared(measured_work: Path, here: Here) -> None:
    content = json.loads((measured_work / "r.json").read_text())
    content["machine"]["cpu"] = "another"
    (measured_work / "other.json").write_text(json.dumps(content))
    code, out, _ = here.run(measured_work, "--compare", "r.json", "r.json")
    assert (code, "1.000" in out) == (0, True)
    code, _, err = here.run(measured_work, "--compare", "r.json", "other.json")
    assert (code, "machine.cpu is" in err) == (1, True)
    code, out, _ = here.run(measured_work, "--compare", "r.json", "other.json", "--despite", "machine.cpu")
    assert (code, "1.000" in out) == (0, True)


def test_a_page_is_written_beside_the_json(measured_work: Path) -> None:
    page = (measured_work / "r.html").read_text()
    assert page.startswith("<!doctype html>")
    median = json.loads((measured_work / "r.json").read_text())["rows"][0]["stages"]["forward"]["median_ms"]
    assert f"ort-fp32, 16 snippets: {median:.4g}" in page


def test_an_earlier_run_is_reported_again(measured_work: Path, here: Here) -> None:
    code, out, err = here.run(measured_work, "--render", "r.json", "--format", "html", "-o", "again.html")
    assert (code, out) == (0, "")
    assert err == "stale-bench: 1 rows written to again.html\n"
    assert (measured_work / "again.html").read_text() == (measured_work / "r.html").read_text()
    code, out, err = here.run(measured_work, "--render", "r.json", "--format", "html")
    assert (code, out, err) == (0, (measured_work / "r.html").read_text(), "")
    code, out, _ = here.run(measured_work, "--render", "r.json", "--format", "csv", "--plot", "again.svg")
    assert (code, out) == (0, (measured_work / "printed.csv").read_text())
    assert (measured_work / "again.svg").read_text().startswith("<?xml")
    code, out, _ = here.run(measured_work, "--render", "r.json", "--format", "json")
    assert (code, out) == (0, (measured_work / "r.json").read_text())
    code, out, _ = here.run(measured_work, "thesis", "--render", "r.json")
    assert (code, "Forward seconds: mean" in out) == (0, True)


def test_map_is_that_of_stale_eval(work: Path) -> None:
    content = measured(
        work, "--backend", "ort-fp32", "--features", "feats", "--ground-truth", "gt.json", "--subset", "validation"
    )
    (row,) = content["rows"]
    assert row["map_change"] == {"points": 0, "low": 0, "high": 0}
    assert len(row["map_resamples"]) == content["protocol"]["map_draws"]["resamples"] == 1000
    assert content["protocol"]["inputs"] == "2 feature files"
    (work / "classes.txt").write_text("long jump\narchery\npolo\n")
    run(
        "stale-run", "feats", "--prompts", "classes.txt", "--durations", "gt.json", "--backend", "ort-fp32",
        "--length", "16", "--format", "json", "-o", "det.json", cwd=work,
    )  # fmt: skip
    done = run("stale-eval", "det.json", "--ground-truth", "gt.json", "--format", "json", cwd=work)
    expected = json.loads(done.stdout)
    assert row["map"] == {"average": expected["average"], **expected["per_tiou"]}


def test_whole_videos_and_windows_are_compared_over_the_length_of_videos(work: Path, here: Here) -> None:
    printed = bench(
        work, "--backend", "ort-fp32", "--snippets", "30", "60", "--lengths", "16", "--budget", "1", "--features",
        "feats", "--ground-truth", "gt.json", "-o", "r.json", "--plot", "c.svg", "--format", "markdown",
    )  # fmt: skip
    lines = [[cell.strip() for cell in line.split("|")[1:5]] for line in printed.splitlines() if line.startswith("|")]
    scale = json.loads((work / "stale_bundle" / "manifest.json").read_text())["temporal_scale"]
    assert lines[0] == ["backend", "mode", "N", "T"]
    assert lines[2:] == [
        ["ort-fp32", mode, N, T]
        for mode, N, T in (
            ("whole", "30", "16"), ("whole", "30", "30"), ("windows", "30", "auto"),
            ("whole", "60", "16"), ("whole", "60", "60"), ("windows", "60", "auto"),
            ("each alone", "30", "auto"),
        )
    ]  # fmt: skip
    rows = json.loads((work / "r.json").read_text())["rows"]
    assert [row["length"] for row in rows] == [16, 30, scale, 16, 60, scale]
    assert all(row["map"] is not None and row["stages"].keys() >= {"import", "load", "video"} for row in rows)
    assert (work / "c.svg").read_text().startswith("<?xml")
    code, out, _ = here.run(work, "--compare", "r.json", "r.json")
    assert (code, out.count("1.000")) == (0, 6)


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
    assert "Interrupted: this is what was measured before that." in out
    assert "Traceback" not in err
    assert json.loads((work / "r.json").read_text())["complete"] is False


@pytest.fixture(scope="module")
def broken_work(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``work`` has, and files that cannot be used."""
    folder = fill(tmp_path_factory.mktemp("broken"), bundle)
    shutil.copytree(folder / "stale_bundle", folder / "broken")
    graph = folder / "broken" / "localizer.fp32.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    (folder / "bad").mkdir()
    (folder / "bad" / "v_a.npy").write_bytes(b"nonsense")
    (folder / "other.json").write_text((folder / "gt.json").read_text().replace('"a"', '"c"').replace('"b"', '"d"'))
    (folder / "long.txt").write_text("polo\n" + "abc " * 60)
    return folder


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
        ("--features nowhere", 3, "--features nowhere: No such file"),
        ("--features bad", 3, "not a .npy file"),
        ("--ground-truth gt.json", 2, "--ground-truth without --features"),
        ("--subset validation", 2, "--subset without --ground-truth"),
        ("--prompts nowhere.txt", 3, "nowhere.txt: No such file"),
        ("--prompts long.txt", 3, "long.txt, line 2"),
        ("-o nowhere/r.json", 2, "-o nowhere/r.json: there is no folder nowhere"),
        ("-o feats", 2, "-o feats: a folder"),
        ("--plot nowhere/c.png", 2, "--plot nowhere/c.png: there is no folder"),
        ("--plot c.bmp", 2, "expected a name that ends in .png or .svg"),
        ("--threads 9999", 1, "--threads 9999 needs 9999 CPUs"),
        ("--backend ort-fp32 --baseline upstream-fp32", 2, "is not among the backends measured"),
        ("--compare gt.json gt.json", 3, "not a result of stale-bench"),
        ("--compare nowhere.json gt.json", 3, "nowhere.json: No such file"),
        ("--compare gt.json gt.json --lengths 100", 2, "--compare measures nothing, so leave out --lengths"),
        ("--despite machine", 2, "--despite belongs to --compare"),
        ("--render nowhere.json", 3, "nowhere.json: No such file"),
        ("--render gt.json", 3, "not a result of stale-bench"),
        ("--render gt.json --lengths 100", 2, "--render measures nothing, so leave out --lengths"),
        ("--render gt.json -o gt.json", 2, "-o gt.json: the same file as --render"),
        ("--render gt.json --compare gt.json gt.json", 2, "--compare measures nothing, so leave out --render"),
        ("thesis --render gt.json --seeds 2", 2, "--render measures nothing, so leave out --seeds"),
        ("-o r.html -o r.html", 2, "-o r.html: given twice"),
        ("--compare gt.json gt.json --format html", 2, "--compare prints --format table or markdown"),
        ("--budget 0", 2, "--budget"),
        ("--snippets 0", 2, "'0', expected 16 to "),
        ("--snippets 16:200000:1", 2, "'16:200000:1' are 199,985 lengths, expected at most 4,096"),
        ("--snippets 61 --features feats", 1, "the 2 videos of --features have 60 snippets altogether"),
        ("--backend upstream-int8 --snippets 5000", 1, "the original takes a whole video of 16 to 4,096 snippets"),
        ("--snippets 100 --budget 5 thesis", 2, "thesis has no --snippets; leave it out"),
        ("--plot x.png soak", 2, "soak has no --plot; leave it out"),
        ("--compare gt.json gt.json --snippets 50", 2, "--compare measures nothing, so leave out --snippets"),
        (
            "--lengths 100 --budget 5 thesis",
            2,
            "options of thesis go after its name, as in: stale-bench thesis --budget",
        ),
        ("thesis --bundle nowhere", 4, "no bundle"),
        ("soak --videos 10", 2, "--videos"),
        ("soak --bundle no", 4, "no bundle"),
        ("--seed 1 soak", 2, "options of soak go after its name, as in: stale-bench soak --seed"),
        ("--compare gt.json gt.json --format csv", 2, "--compare prints --format table or markdown"),
        ("thesis -o nowhere/r.json", 2, "there is no folder"),
    ],
)
def test_what_cannot_be_measured_is_found_out_before(
    broken_work: Path, here: Here, arguments: str, code: int, says: str
) -> None:
    ended, out, err = here.run(broken_work, *arguments.split())
    assert (ended, out) == (code, ""), err
    (line,) = err.splitlines()
    assert line.startswith("stale-bench: error: ")
    assert says in line


def test_an_error_takes_one_line_and_a_code(work: Path) -> None:
    fails("stale-bench", "--bundle", "nowhere", cwd=work, code=4, says="no bundle: looked in --bundle nowhere")


def test_a_feature_file_that_cannot_be_used_is_left_out_by_name(work: Path) -> None:
    np.save(work / "feats" / "v_b.npy", np.full((30, CHANNELS), np.nan, np.float32))
    printed = bench(
        work, *QUICK, "--backend", "ort-fp32", "--features", "feats", "--ground-truth", "gt.json", "-o", "r.json"
    )  # fmt: skip
    assert "1 feature files were left out; for mAP, nothing was found in them:" in printed
    assert "left out: v_b.npy: NaN or infinity" in printed
    protocol = json.loads((work / "r.json").read_text())["protocol"]
    assert protocol["inputs"] == "1 feature files"
    assert list(protocol["inputs_left_out"]) == ["v_b.npy"]
    assert (protocol["evaluated_videos"], protocol["evaluated_videos_with_features"]) == (2, 1)


@pytest.mark.slow
def test_the_thesis_in_one_command(work: Path) -> None:
    printed = bench(work, "thesis", "--lengths", "16", "--seeds", "1", "-o", "t.json")
    assert "upstream-int8 s" in printed
    original, *ours = json.loads((work / "t.json").read_text())["rows"]
    assert original["backend"] == "upstream-int8"
    assert len(original["stages"]["forward"]["per_launch"]) == 1
    assert "ort-fp32" in {row["backend"] for row in ours}
    assert all(row["error"] is None for row in (original, *ours))


@pytest.mark.slow
def test_pytorch_runs_in_a_worker_too(work: Path) -> None:
    rows = measured(work, "--backend", "torch-fp32", "torch-int8", "--lengths", "16")["rows"]
    assert [(row["backend"], row["error"]) for row in rows] == [("torch-fp32", None), ("torch-int8", None)]


def test_a_soak_shows_that_nothing_grows(work: Path) -> None:
    lines = bench(work, "soak", "--videos", "200", "--length", "16").splitlines()
    assert [line.split("  ")[0] for line in lines[2:5]] == [
        "videos a second",
        "videos a CPU second",
        "resident memory, MB",
    ]
    assert lines[6] == "200 videos of 16 to 3,000 snippets in 20 rounds of 10."
    assert lines[8].endswith("Videos with other detections than in the first round: 0.")
    assert lines[9].startswith("Speed at the end, compared in turns with 5 new processes: ")
