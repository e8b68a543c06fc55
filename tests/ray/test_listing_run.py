"""Runs in Ray, in the process of the tests."""

import json
import shutil
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from stale_runtime import Bundle, Localizer, VideoDetections, read_prompts
from stale_runtime.errors import DatasetError, JournalError
from stale_runtime.formats.parquet_table import parquet_schema
from stale_runtime.formats.result_rows import FailedVideo, read_result_row, row_of_result
from stale_runtime.ray_data.detection_plan import DetectionPlan
from stale_runtime.ray_data.listing_run import ListingRun
from stale_runtime.ray_data.row_parts import WARNING, read_finished, tidy_parts, write_part
from stale_runtime.ray_data.video_listing import ListedVideo, read_listing
from tests.ray.conftest import BUNDLE, EXAMPLES, PROMPTS
from tests.ray.deadly_plan import DeadlyPlan, DyingOncePlan, UnusablePlan


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of all parts by video, each of which is there once."""
    from pyarrow import parquet

    rows = [row for path in folder.glob("*.parquet") for row in parquet.read_table(path).to_pylist()]
    assert len({row["video"] for row in rows}) == len(rows)
    assert [path.name for path in folder.glob(".*")] == []
    return {row["video"]: row for row in rows}


def found(video: str) -> VideoDetections:
    return VideoDetections(video=video, duration_s=None, detections=())


def as_kind(kind: type[DetectionPlan], plan: DetectionPlan) -> DetectionPlan:
    return kind(**{field.name: getattr(plan, field.name) for field in fields(plan)})


@pytest.mark.usefixtures("ray_here")
def test_files_give_what_a_localizer_finds_and_broken_ones_their_reason(
    feature_files: Path, plan: DetectionPlan, tmp_path: Path
) -> None:
    run = ListingRun.prepare(plan, read_listing(feature_files), tmp_path / "out", resume=False)
    reported = {done.video: done for done in run.detect(actors=2)}
    rows = rows_of(tmp_path / "out")
    assert (run.failed, run.missing) == (2, 0)
    assert rows.keys() == reported.keys() == {path.stem for path in feature_files.glob("*.npy")}
    localizer = Localizer(Bundle(BUNDLE), plan.settings)
    prompts = localizer.encode_prompts(read_prompts(PROMPTS))
    for path in feature_files.glob("clip*.npy"):
        assert rows[path.stem] == row_of_result(localizer.detect_file(path, prompts), plan.text)
    assert (rows["broken"]["status"], rows["broken"]["error"]) == ("failed", "FeatureError")
    assert "not a .npy file" in rows["broken"]["message"]
    assert "truncated" in rows["torn"]["message"]
    assert reported["torn"].message == rows["torn"]["message"]
    again = ListingRun.prepare(plan, read_listing(feature_files), tmp_path / "out", resume=True)
    assert sorted(video.video for block in again.files for video in block) == ["broken", "torn"]


@pytest.mark.usefixtures("ray_here")
def test_videos_give_what_stale_run_finds(plan: DetectionPlan, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    listing = [*read_listing(EXAMPLES), ListedVideo("broken", str(broken))]
    run = ListingRun.prepare(plan, listing, tmp_path / "out", resume=False)
    assert Counter(done.status for done in run.detect(actors=2)) == {"ok": 2, "failed": 1}
    rows = rows_of(tmp_path / "out")
    expected = json.loads((EXAMPLES / "detections.json").read_text())["results"]
    for video, detections in expected.items():
        assert [
            {"label": row["label"], "score": row["score"], "segment": [row["start"], row["end"]]}
            for row in rows[video]["detections"]
        ] == detections
        assert read_result_row(rows[video], "here").video == video
    assert rows["broken"]["error"] == "VideoError"


@pytest.mark.usefixtures("ray_here")
def test_ids_are_those_of_the_listing(feature_files: Path, plan: DetectionPlan, tmp_path: Path) -> None:
    listing = [ListedVideo(f"id {number}", str(feature_files / f"clip0{number}.npy")) for number in range(3)]
    run = ListingRun.prepare(plan, listing, tmp_path / "out", resume=False)
    assert {done.video for done in run.detect(actors=1)} == rows_of(tmp_path / "out").keys() == {"id 0", "id 1", "id 2"}


@pytest.mark.usefixtures("ray_here")
def test_the_batch_of_an_actor_that_dies_is_done_again(
    feature_files: Path, plan: DetectionPlan, tmp_path: Path
) -> None:
    shutil.copy(feature_files / "clip00.npy", feature_files / "deadly.npy")
    listing = read_listing(feature_files)
    run = ListingRun.prepare(as_kind(DyingOncePlan, plan), listing, tmp_path / "out", resume=False)
    assert len(list(run.detect(actors=2))) == len(listing)
    assert (feature_files / "deadly.mark").exists()
    assert rows_of(tmp_path / "out").keys() == {video.video for video in listing}


@pytest.mark.usefixtures("ray_here")
def test_a_file_that_ends_every_process_costs_its_batch_and_no_other(
    feature_files: Path, plan: DetectionPlan, tmp_path: Path
) -> None:
    shutil.copy(feature_files / "clip00.npy", feature_files / "deadly.npy")
    listing = read_listing(feature_files)
    run = ListingRun.prepare(as_kind(DeadlyPlan, plan), listing, tmp_path / "out", resume=False)
    list(run.detect(actors=1))
    assert 1 <= run.missing <= 4
    found = rows_of(tmp_path / "out").keys()
    assert found < {video.video for video in listing}
    assert len(found) == len(listing) - run.missing
    rest = ListingRun.prepare(plan, listing, tmp_path / "out", resume=True)
    list(rest.detect(actors=1))
    assert rows_of(tmp_path / "out").keys() == {video.video for video in listing}


@pytest.mark.usefixtures("ray_here")
def test_a_bundle_that_no_process_can_open_ends_the_run(
    feature_files: Path, plan: DetectionPlan, tmp_path: Path
) -> None:
    run = ListingRun.prepare(as_kind(UnusablePlan, plan), read_listing(feature_files), tmp_path / "out", resume=False)
    with pytest.raises(Exception, match="this machine lacks something"):
        list(run.detect(actors=1))


def test_a_folder_with_results_needs_resume_and_the_same_settings_and_listing(
    feature_files: Path, plan: DetectionPlan, tmp_path: Path
) -> None:
    listing, out = read_listing(feature_files), tmp_path / "out"
    out.mkdir()
    row = {**row_of_result(FailedVideo("torn", "FeatureError", "truncated"), plan.text), WARNING: None}
    done = {**row_of_result(found("clip00"), plan.text), WARNING: None}
    write_part(_table([row, done]), folder=out)
    (out / ".unfinished-0").touch()
    with pytest.raises(JournalError, match="results of 2 videos already; give --resume"):
        ListingRun.prepare(plan, listing, out, resume=False)
    with pytest.raises(JournalError, match="other settings"):
        ListingRun.prepare(replace(plan, text="{}"), listing, out, resume=True)
    with pytest.raises(JournalError, match="1 videos that are not listed, such as 'clip00'"):
        ListingRun.prepare(plan, listing[2:], out, resume=True)
    run = ListingRun.prepare(plan, listing, out, resume=True)
    assert "torn" in {video.video for block in run.files for video in block}
    assert run.left == len(listing) - 1
    assert rows_of(out).keys() == {"clip00"}


def test_a_part_that_is_written_again_takes_the_place_of_the_first(plan: DetectionPlan, tmp_path: Path) -> None:
    rows = [{**row_of_result(found(name), plan.text), WARNING: None} for name in "ab"]
    for order in (rows, rows[::-1]):
        write_part(_table(order), folder=tmp_path)
    assert rows_of(tmp_path).keys() == {"a", "b"}


def test_a_part_that_is_broken_or_has_a_video_again_is_named(plan: DetectionPlan, tmp_path: Path) -> None:
    rows = [{**row_of_result(found(name), plan.text), WARNING: None} for name in "ab"]
    write_part(_table(rows), folder=tmp_path)
    write_part(_table(rows[:1]), folder=tmp_path)
    with pytest.raises(DatasetError, match="video 'a' has a row in another part too"):
        read_finished(tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(DatasetError, match=r"x\.parquet: broken"):
        tidy_parts(tmp_path)


def test_blocks_are_those_of_the_whole_listing_so_that_late_parts_of_a_killed_run_are_replaced(
    plan: DetectionPlan, tmp_path: Path
) -> None:
    listing = [ListedVideo(f"{number:03}", f"/x/{number:03}.npy") for number in range(200)]
    first = ListingRun.prepare(plan, listing, tmp_path, resume=True)
    rows = [{**row_of_result(found(video.video), plan.text), WARNING: None} for video in first.files[1]]
    write_part(_table(rows), folder=tmp_path)
    again = ListingRun.prepare(plan, listing, tmp_path, resume=True)
    assert len(first.files) > 2
    assert again.files == (first.files[0], *first.files[2:])


def test_results_that_cannot_be_written_say_why(plan: DetectionPlan, tmp_path: Path) -> None:
    row = {**row_of_result(found("a"), plan.text), WARNING: None}
    told = write_part(_table([row]), folder=tmp_path / "missing")
    assert "No such file or directory" in told["unwritten"][0].as_py()


def _table(rows: list[dict[str, Any]]) -> Any:
    import pyarrow

    return pyarrow.Table.from_pylist(rows, parquet_schema().append(pyarrow.field(WARNING, pyarrow.string())))
