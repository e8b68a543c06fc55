"""What ``stale-run`` writes, in which format, and from which score on."""

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import srt
from numpy.typing import NDArray

from stale_runtime.batch.batch import BatchRun
from stale_runtime.bundle.reading_score import DEFAULT_READING_SCORE
from stale_runtime.commands.output_formats import OUTPUT_FORMATS
from stale_runtime.inference.outcome import Outcome
from tests.cli.same_process import fails, run
from tests.tiny import CLASSES

NAMES = ("v_a", "v_b", "v_c")
PROMPTS = ("--prompts", "classes.txt")
TIMES = ("--fps", "8", "--stride", "16")


@pytest.fixture
def work(bundle: Path, features: NDArray[np.float32], tmp_path: Path) -> Path:
    """A folder as a user has it: bundle, three videos, prompts."""
    shutil.copytree(bundle, tmp_path / "stale_bundle")
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    folder = tmp_path / "features"
    folder.mkdir()
    for n, name in enumerate(NAMES):
        np.save(folder / f"{name}.npy", features[n : n + 20])
    return tmp_path


def detect(work: Path, *arguments: str | Path) -> str:
    done = run("stale-run", *arguments, *PROMPTS, cwd=work)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_json(text: str) -> list[tuple[str, str, float, float, float]]:
    videos = json.loads(text)["results"]
    return [(name, row["label"], *row["segment"], row["score"]) for name, rows in videos.items() for row in rows]


def read_csv(text: str) -> list[tuple[str, str, float, float, float]]:
    _, *rows = csv.reader(io.StringIO(text))
    return [(video, label, *map(float, numbers)) for video, label, *numbers in rows]  # type: ignore[misc]


def read_lines(text: str) -> list[tuple[str, str, float, float, float]]:
    videos = map(json.loads, text.splitlines())
    return [(one["video"], row["label"], *row["segment"], row["score"]) for one in videos for row in one["detections"]]


@pytest.mark.parametrize("name", ["json", "jsonl", "csv", "srt", "vtt", "html"])
def test_the_output_s_name_chooses_the_format_unless_an_option_does(work: Path, name: str) -> None:
    detect(work, "features/v_a.npy", *TIMES, "-o", f"a.{name.upper()}")
    detect(work, "features/v_a.npy", *TIMES, "-o", "b.txt", "--format", name)
    detect(work, "features/v_a.npy", *TIMES, "-o", f"c.{name}", "--format", "table")
    assert (work / f"a.{name.upper()}").read_text() == (work / "b.txt").read_text()
    assert (work / f"c.{name}").read_text().startswith("video ")


def middle_score(work: Path) -> float:
    """A score that some detections reach and others do not."""
    scores = sorted(row[4] for row in read_json(detect(work, "features", "--format", "json")))
    return scores[len(scores) // 2]


def test_formats_for_programs_agree(work: Path) -> None:
    found = read_json(detect(work, "features", *TIMES, "--format", "json"))
    assert len({row[0] for row in found}) == 3
    text = detect(work, "features", *TIMES, "--format", "csv")
    assert text.startswith("video,label,start_s,end_s,score\n")
    assert read_csv(text) == found
    assert read_lines(detect(work, "features", *TIMES, "--format", "jsonl")) == found
    tasks = json.loads(detect(work, "features", *TIMES, "--format", "labelstudio"))
    assert sum(len(task["predictions"][0]["result"]) for task in tasks) == len(found)
    assert {task["data"]["fps"] for task in tasks} == {8.0}


def test_without_durations_a_csv_says_that_times_are_fractions(work: Path) -> None:
    assert detect(work, "features", "--format", "csv").startswith("video,label,start_fraction,end_fraction,score\n")


def test_people_get_what_scores_well_and_programs_all(work: Path) -> None:
    found = read_json(detect(work, "features", "--format", "json"))
    low = sum(row[4] < DEFAULT_READING_SCORE for row in found)
    assert 0 < low <= len(found)
    table = detect(work, "features", "--top", "99")
    assert f"{low:,} detection" in table
    assert "below 0.4; --min-score 0 shows" in table
    assert "below" not in detect(work, "features", "--top", "99", "--min-score", "0")


@pytest.mark.parametrize(("name", "read"), [("json", read_json), ("csv", read_csv), ("jsonl", read_lines)])
def test_the_lowest_score_can_be_chosen(work: Path, name: str, read: Any) -> None:
    score = middle_score(work)
    every = read(detect(work, "features", "--format", name))
    kept = read(detect(work, "features", "--format", name, "--min-score", str(score)))
    assert kept == [row for row in every if row[4] >= score]
    assert 0 < len(kept) < len(every)


def test_a_report_says_format_and_score(work: Path) -> None:
    detect(work, "features", "--report", "r.json", *TIMES, "--format", "srt", "-o", "subs")
    settings = json.loads((work / "r.json").read_text())["run"]
    assert (settings["format"], settings["min_score"]) == ("srt", DEFAULT_READING_SCORE)
    detect(work, "features", "--report", "r.json", "--format", "json")
    assert json.loads((work / "r.json").read_text())["run"]["min_score"] is None


def test_a_written_file_is_announced_in_one_line_and_a_piped_result_is_not(work: Path) -> None:
    one = ("features/v_a.npy", *TIMES, *PROMPTS, "--min-score", "0")
    done = run("stale-run", *one, "--format", "json", "-o", "out.json", cwd=work)
    found = read_json((work / "out.json").read_text())
    classes = len({row[1] for row in found})
    line = f"stale-run: {len(found)} actions of {classes} class{'' if classes == 1 else 'es'} in v_a.npy"
    assert done.stderr == f"{line} (score 0 and above), written to out.json\n"
    assert run("stale-run", *one, "--format", "json", cwd=work).stderr == ""
    assert line in run("stale-run", *one, "--format", "json", "-v", cwd=work).stderr


@pytest.mark.parametrize("name", ["srt", "html"])
def test_a_result_that_looks_empty_says_why(work: Path, name: str) -> None:
    one = ("features/v_a.npy", *TIMES, *PROMPTS, "--format", name)
    found = len(read_json(run("stale-run", *one[:-1], "json", cwd=work).stdout))
    why = f"stale-run: no actions in v_a.npy (score 5 and above; {found} score less: --min-score 0 shows them)"
    assert run("stale-run", *one, "--min-score", "5", cwd=work).stderr == f"{why}\n"
    done = run("stale-run", *one, "--min-score", "5", "-o", "out", cwd=work)
    assert done.stderr == f"{why}, written to out\n"


@pytest.mark.parametrize("name", [name for name, form in OUTPUT_FORMATS.items() if form.single_video])
def test_a_folder_gets_a_file_for_each_video(work: Path, name: str) -> None:
    folder = work / "made"
    done = run("stale-run", "features", *PROMPTS, *TIMES, "--format", name, "-o", "made", cwd=work)
    assert done.returncode == 0, done.stderr
    said = "in 3 videos (score 0.4 and above), written in made, a file a video"
    assert done.stderr.endswith(f"{said}{'; open made/index.html' if name == 'html' else ''}\n")
    suffix = OUTPUT_FORMATS[name].suffix
    assert {f"{video}{suffix}" for video in NAMES} <= {path.name for path in folder.iterdir()}
    assert not [path for path in folder.iterdir() if path.suffix not in (suffix,)]


def test_files_of_the_same_names_are_replaced_and_others_stay(work: Path) -> None:
    folder = work / "subs"
    folder.mkdir()
    (folder / "v_a.srt").write_text("old")
    (folder / "notes.txt").write_text("mine")
    detect(work, "features", *TIMES, "--format", "srt", "-o", "subs", "--min-score", "0")
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", "v_a.srt", "v_b.srt", "v_c.srt"]
    assert (folder / "notes.txt").read_text() == "mine"
    assert list(srt.parse((folder / "v_a.srt").read_text(), ignore_errors=False))


def test_a_failed_video_costs_no_other_s_file(work: Path) -> None:
    (work / "features" / "v_b.npy").write_bytes(b"broken")
    done = run("stale-run", "features", *PROMPTS, *TIMES, "--format", "vtt", "-o", "subs", cwd=work)
    assert done.returncode == 5
    assert sorted(path.name for path in (work / "subs").iterdir()) == ["v_a.vtt", "v_c.vtt"]


def test_what_is_resumed_may_be_written_in_another_format_from_another_score(work: Path) -> None:
    good = (work / "features" / "v_b.npy").read_bytes()
    (work / "features" / "v_b.npy").write_bytes(b"broken")
    arguments = ("features", *PROMPTS, "-o", "out", "--format")
    assert run("stale-run", *arguments, "json", "--fail-fast", "--min-score", "0.9", cwd=work).returncode == 3
    assert (work / "out.partial.jsonl").exists()
    (work / "features" / "v_b.npy").write_bytes(good)
    done = run("stale-run", *arguments, "csv", "--resume", cwd=work)
    assert "1 of 3 videos were finished before" in done.stderr
    assert read_csv((work / "out").read_text()) == read_json(detect(work, "features", "--format", "json"))


def test_lines_are_out_before_the_next_video_begins(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = []
    original = BatchRun.detect

    def watched(self: BatchRun, *arguments: Any, **options: Any) -> Iterator[Outcome]:
        for outcome in original(self, *arguments, **options):
            assert isinstance(sys.stdout, io.StringIO)
            printed.append(sys.stdout.getvalue().count("\n"))
            yield outcome

    monkeypatch.setattr(BatchRun, "detect", watched)
    text = detect(work, "features", "--format", "jsonl")
    assert printed == [0, 1, 2]
    assert len(text.splitlines()) == 3


def test_a_reader_of_lines_may_leave_after_the_first(work: Path) -> None:
    command = f"{Path(sys.executable).parent / 'stale-run'} features --prompts classes.txt --format jsonl | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=work, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["video"] == "a"


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("classes.txt", "the same file as --prompts, which it would ruin"),
        ("features/v_b.npy", "the same file as features/v_b.npy, which it would ruin"),
        ("stale_bundle/manifest.json", "in the folder of --bundle"),
    ],
)
@pytest.mark.parametrize("option", ["-o", "--report"])
def test_no_input_is_replaced(work: Path, option: str, output: str, says: str) -> None:
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    fails("stale-run", "features", *PROMPTS, option, output, cwd=work, code=2, says=f"{option} {output}: {says}")
    assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before
