from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import click
import pytest

from stale_runtime.commands.run_request import STDIN, BundleRequest, RunRequest
from stale_runtime.errors import MissingPackageError
from stale_runtime.inputs.timeline import Timeline

PLAIN = RunRequest(
    features=(Path("v_one.npy"),),
    prompts=Path("classes.txt"),
    bundle=BundleRequest(path=None, expect_sha256=None, verify_key=None),
    backend=None,
    vision_precision=None,
    length=None,
    window="auto",
    max_detections=None,
    classes_per_video=3,
    width=None,
    threads=1,
    decoder=None,
    timeout=None,
    duration=None,
    fps=None,
    stride=None,
    durations=None,
    split_names=False,
    external_classifier=None,
    external_mode=None,
    output_format=None,
    min_score=None,
    ground_truth=None,
    subset=None,
    output=None,
    report=None,
    fail_fast=False,
    strict=False,
    resume=False,
    top=None,
    cache_folder=None,
    no_cache=False,
    verbose=False,
)
TWO = (Path("a.npy"), Path("b.npy"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"features": ()}, "no INPUT"),
        ({"prompts": None}, "no --prompts"),
        ({"fps": 25.0}, "--fps and --stride belong together"),
        ({"stride": 16.0}, "--fps and --stride belong together"),
        ({"fps": 25.0, "stride": 16.0, "duration": 3.0}, "exclude each other"),
        ({"duration": 3.0, "durations": Path("d.csv")}, "exclude each other"),
        ({"features": TWO, "duration": 3.0}, "--duration is for a single video"),
        (
            {"features": TWO, "output_format": "srt"},
            "srt holds a single video; for a file of each, give -o FOLDER",
        ),
        (
            {"features": TWO, "output_format": "vtt", "output": Path("o.vtt")},
            "-o o.vtt: a file, but --format vtt holds",
        ),
        ({"features": TWO, "output_format": "vtt", "output": Path("no/folder")}, "there is no folder no; create it"),
        (
            {"ground_truth": Path("g.json"), "output_format": "csv"},
            "--ground-truth with --format csv, which shows no annotations; give --format table or html",
        ),
        ({"subset": "testing"}, "--subset without --ground-truth"),
        ({"output": Path("classes.txt")}, "-o classes.txt: the same file as --prompts, which it would ruin"),
        ({"report": Path("v_one.npy")}, "--report v_one.npy: the same file as v_one.npy, which it would ruin"),
        ({"output": Path("v_one.recipe.json")}, "the same file as the origin of v_one.npy, which it would ruin"),
        ({"fps": 1.0, "stride": 1.0, "durations": None, "output": Path("v_one.npy")}, "the same file as v_one.npy"),
        *(
            ({"output_format": name}, f"--format {name} needs seconds")
            for name in ("srt", "vtt", "labelstudio", "audacity", "otio", "eaf")
        ),
        ({"resume": True}, "--resume without -o"),
        ({"external_mode": "always"}, "--external-mode without --external-classifier"),
        ({"output": Path("o.json"), "report": Path("o.json")}, "the same file"),
        ({"output": Path("o.json"), "report": Path("o.json.partial.jsonl")}, "the same file, or its journal"),
        ({"output": Path("no/folder/o.json")}, "-o no/folder/o.json: there is no folder"),
        ({"width": 512}, "--width without -"),
        ({"window": 64, "decoder": "upstream"}, "window 64 with decoder upstream, which looks at whole videos only"),
        ({"classes_per_video": 5, "decoder": "upstream"}, "classes 5 with decoder upstream"),
        ({"max_detections": 5, "decoder": "upstream"}, "most_detections 5 with decoder upstream"),
        ({"features": (STDIN, STDIN)}, "- and another INPUT"),
        ({"features": (STDIN,), "output": Path("o")}, "write > FILE"),
        ({"features": (STDIN,), "durations": Path("d.csv")}, "give --fps with --stride"),
        ({"features": (STDIN,), "external_classifier": Path("d")}, "--external-classifier with -, a stream"),
        (
            {"features": (STDIN,), "output_format": "vtt"},
            "--format vtt with -, a stream whose",
        ),
        ({"features": (STDIN,), "ground_truth": Path("g")}, "--ground-truth with -, a stream"),
        ({"features": (STDIN,), "length": 100}, "--length N without --window N with -, a stream"),
        ({"report": Path("no/folder/r.json")}, "--report no/folder/r.json: there is no folder"),
    ],
)
def test_options_that_make_no_sense_together_are_usage_errors(
    changes: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(click.UsageError) as error:
        replace(PLAIN, **changes)
    assert says in error.value.message


def test_a_folder_is_not_a_single_video(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="single video"):
        replace(PLAIN, features=(tmp_path,), duration=3.0)


def test_a_request_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        PLAIN.top = 3  # type: ignore[misc]


def test_the_timeline_is_what_is_known_of_durations(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("v_one,80\n")
    assert PLAIN.timeline() == Timeline()
    assert replace(PLAIN, duration=3.0).timeline() == Timeline(duration_s=3.0)
    assert replace(PLAIN, fps=8.0, stride=16.0).timeline() == Timeline(snippet_s=2.0)
    assert replace(PLAIN, durations=tmp_path / "d.csv").timeline() == Timeline(durations_s={"one": 80.0})


def test_settings_are_those_of_the_options() -> None:
    request = replace(PLAIN, length="auto", decoder="upstream", no_cache=True, cache_folder=Path("c"))
    settings = request.settings(2)
    assert (settings.length, settings.decoder, settings.threads, settings.cache) == ("auto", "upstream", 2, False)
    assert settings.cache_folder == Path("c")
    settings = replace(PLAIN, window=64, max_detections=7, classes_per_video=5).settings(1)
    assert (settings.window, settings.most_detections, settings.classes) == (64, 7, 5)


def test_a_stream_may_have_a_window_a_length_and_times() -> None:
    request = replace(PLAIN, features=(STDIN,), window=64, length=100, fps=25.0, stride=5.0, output_format="jsonl")
    assert request.is_stream
    assert not PLAIN.is_stream


def test_several_videos_in_a_format_of_one_go_into_a_folder(tmp_path: Path) -> None:
    several = replace(PLAIN, features=TWO, output_format="srt", output=tmp_path / "new")
    assert several.writes_folder
    assert several.journal == tmp_path / "new" / "stale-run.partial.jsonl"
    single = replace(PLAIN, output_format="srt", duration=3.0, output=tmp_path / "o.srt")
    assert not single.writes_folder
    assert single.journal == tmp_path / "o.srt.partial.jsonl"
    assert replace(single, output=tmp_path).writes_folder
    assert not replace(PLAIN, features=TWO, output_format="csv", output=tmp_path / "new").writes_folder


def test_a_format_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stale_runtime.formats.output_format.find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match=r"needs opentimelineio, .* 'stale-edge\[edit\]'"):
        replace(PLAIN, output_format="otio", duration=3.0)


def test_files_in_folders_are_not_replaced(tmp_path: Path) -> None:
    features = tmp_path / "a.npy"
    features.touch()
    (tmp_path / "link.json").symlink_to(features)
    request = replace(PLAIN, features=(tmp_path,), output=tmp_path / "link.json")
    with pytest.raises(click.UsageError, match="which it would ruin"):
        request.check_inputs_are_kept([features])
    replace(request, output=tmp_path / "other.json").check_inputs_are_kept([features])
