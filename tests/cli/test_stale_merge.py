"""Shards of a run, and putting them together."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_runtime.formats.shard_end import ShardEnd
from stale_runtime.inputs.feature_origin import FeatureOrigin
from stale_runtime.inputs.recipe import UNKNOWN_RECIPE
from stale_runtime.inputs.shards import Shard, shard_index
from tests.cli.same_process import fails, run
from tests.conftest import BuildOnce
from tests.tiny import CHANNELS

pytest.importorskip("pyarrow", reason="no pyarrow; install it with: pip install '.[parquet]'")
Array = NDArray[np.float32]
FORMATS = ("json", "jsonl", "csv", "parquet")
BARE = ("feats", "--prompts", "classes.txt", "--backend", "ort-fp32")
RUN = (*BARE, "--fps", "8", "--stride", "16")
N = 4


def features_of(snippets: int) -> Array:
    return np.random.default_rng(snippets).standard_normal((snippets, CHANNELS)).astype(np.float32)


def make_folder(folder: Path, bundle: Path) -> None:
    """Features, one of them broken, what one run finds in them, and what each of four shards finds."""
    (folder / "feats").mkdir(parents=True)
    (folder / "stale_bundle").symlink_to(bundle)
    (folder / "classes.txt").write_text("polo\narchery\nlong jump\n")
    for n in range(7):
        np.save(folder / "feats" / f"video{n}.npy", features_of(9 + 3 * n))
    (folder / "feats" / "broken.npy").write_bytes(b"broken")
    for form in FORMATS:
        assert run("stale-run", *RUN, "-o", f"one.{form}", cwd=folder).returncode == 5
    for index in range(N):
        for form in ("jsonl", "parquet"):
            done = run("stale-run", *RUN, "--shard", f"{index}/{N}", "-o", f"{index}.{form}", cwd=folder)
            assert done.returncode in (0, 5), done.stderr


@pytest.fixture(scope="module")
def shards(build_once: BuildOnce, bundle: Path) -> Path:
    return build_once("shards", lambda folder: make_folder(folder, bundle))


@pytest.fixture
def folder(shards: Path, tmp_path: Path) -> Path:
    for path in shards.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


def of(form: str, *indices: int) -> list[str]:
    return [f"{index}.{form}" for index in indices or range(N)]


def rewrite(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the lines of a shard."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines)
    path.unlink()
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("shard_form", ["jsonl", "parquet"])
def test_shards_give_what_one_run_writes(form: str, shard_form: str, folder: Path) -> None:
    done = run("stale-merge", *reversed(of(shard_form)), "-o", f"all.{form}", cwd=folder)
    assert done.returncode == 5
    assert (folder / f"all.{form}").read_bytes() == (folder / f"one.{form}").read_bytes()
    assert "error: feats/broken.npy: not a .npy file" in done.stderr
    assert "1 of 8 videos failed" in done.stderr
    assert sorted(path.name for path in folder.glob(".*")) == []


def test_a_folder_of_shards_is_taken_and_a_journal_in_it_is_not(folder: Path) -> None:
    (folder / "in").mkdir()
    for name in (*of("jsonl", 0, 1), *of("parquet", 2, 3)):
        (folder / "in" / name).symlink_to((folder / name).resolve())
    (folder / "in" / "4.jsonl.partial.jsonl").write_text("{}")
    assert run("stale-merge", "in", "-o", "all.json", cwd=folder).returncode == 5
    assert (folder / "all.json").read_bytes() == (folder / "one.json").read_bytes()
    fails("stale-merge", "in", "-o", "in/all.json", cwd=folder, code=2, says="in the folder of")


def test_a_shard_without_videos_is_complete(folder: Path) -> None:
    done = run("stale-run", *RUN, "--shard", "0/1000", "-o", "empty.jsonl", cwd=folder)
    assert done.returncode == 0, done.stderr
    (line,) = (folder / "empty.jsonl").read_text().splitlines()
    assert ShardEnd.read(json.loads(line), "").videos == 0
    assert not list(folder.glob("*.partial.*"))
    done = run("stale-run", *RUN, "--shard", "0/1000", "-o", "empty.parquet", cwd=folder)
    assert done.returncode == 0, done.stderr
    says = "999 of 1,000 shards are missing: 1-999"
    fails("stale-merge", "empty.parquet", "-o", "a.json", cwd=folder, code=3, says=says)


def test_a_shard_in_which_all_failed_is_complete(folder: Path) -> None:
    index = next(index for index in range(1000) if Shard(index=index, count=1000).has("broken"))
    done = run("stale-run", *RUN, "--shard", f"{index}/1000", "-o", "s.jsonl", cwd=folder)
    assert done.returncode == 5
    assert json.loads((folder / "s.jsonl").read_text())["failed"][0]["video"] == "broken"


def test_resuming_another_shard_is_refused(folder: Path) -> None:
    index = next(index for index in range(N) if Shard(index=index, count=N).has("broken"))
    shard = f"{index}/{N}"
    stopped = run("stale-run", *RUN, "--fail-fast", "--shard", shard, "-o", "s.jsonl", cwd=folder)
    assert stopped.returncode == 3
    fails("stale-merge", "s.jsonl", "-o", "a.json", cwd=folder, code=3, says="s.jsonl: without the last line")
    other = f"{(index + 1) % N}/{N}"
    options = ("--resume", "-o", "s.jsonl")
    fails("stale-run", *RUN, "--shard", other, *options, cwd=folder, code=3, says=f"shard {shard}, now {other}")
    assert run("stale-run", *RUN, "--shard", shard, *options, "--report", "r.json", cwd=folder).returncode == 5
    assert (folder / "s.jsonl").read_bytes() == (folder / f"{index}.jsonl").read_bytes()
    assert json.loads((folder / "r.json").read_text())["run"]["shard"] == shard


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--shard", "0/2", "-o", "a.json"], "--shard with --format json, which cannot be merged"),
        (["--shard", "0/2", "--format", "jsonl"], "--shard without -o"),
        (["--shard", "2/2", "-o", "a.jsonl"], "they count from 0: expected 0 to 1"),
        (["--format", "parquet"], "--format parquet is not text; give -o FILE"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments: list[str], says: str, folder: Path) -> None:
    fails("stale-run", *RUN, *arguments, cwd=folder, code=2, says=says)


def test_all_that_is_missing_is_named(folder: Path) -> None:
    fails(
        *("stale-merge", *of("jsonl", 1), "-o", "a.json"), cwd=folder, code=3, says="3 of 4 shards are missing: 0, 2-3"
    )
    done = run("stale-merge", *of("jsonl", 1), "--incomplete", "-o", "a.json", cwd=folder)
    assert done.returncode in (0, 5)
    fails("stale-merge", *of("jsonl"), "0.parquet", "-o", "a.json", cwd=folder, code=3, says="shard 0 is there more")


def _set(path: str, value: Any) -> Callable[[list[dict[str, Any]]], object]:
    def change(lines: list[dict[str, Any]]) -> None:
        *folders, last = path.split(".")
        place = lines[-1]
        for name in folders:
            place = place[name]
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: lines.pop(), "without the last line of a complete shard"),
        (lambda lines: lines.pop(0), "but its end says"),
        (lambda lines: lines[0].update(video="video0 of another"), "belongs to another shard than"),
        (lambda lines: lines.insert(0, lines[0]), "is also in"),
        (lambda lines: lines[0].update(duration_s=-1.0), "line 1: duration_s -1.0"),
        (lambda lines: lines[0]["detections"][0].update(score=float("nan")), "line 1: not valid JSON"),
        (lambda lines: lines[0]["detections"][0].update(segment=[2.0, 1.0]), "ends before it starts"),
        (lambda lines: lines[0]["detections"][0].update(label="\ud800"), "line 1: not valid JSON"),
        (lambda lines: lines.insert(0, [1]), "line 1: not a JSON object"),
        (_set("settings.bundle_sha256", "f" * 64), "other settings than 0.jsonl (bundle_sha256 ffffffffffffffff and"),
        (_set("shard", "1/5"), "shard 1/5, but 0.jsonl is shard 0/4"),
        (_set("shard", "x"), "is not that of a shard"),
        (_set("listing.sha256", "0"), "of other files than 0.jsonl"),
        (_set("videos", -1), "its end says -1 of 8 videos"),
    ],
)
def test_a_file_that_does_not_belong_is_refused(
    change: Callable[[list[dict[str, Any]]], object], says: str, folder: Path
) -> None:
    index = next(n for n in range(1, N) if len((folder / f"{n}.jsonl").read_text().splitlines()) > 1)
    rewrite(folder / f"{index}.jsonl", change)
    fails("stale-merge", *of("jsonl"), "-o", "all.json", cwd=folder, code=3, says=says)
    assert not (folder / "all.json").exists()


def test_a_listing_that_no_shard_has_whole_is_noticed(folder: Path) -> None:
    for name in of("jsonl"):
        rewrite(folder / name, _set("listing.sha256", "0"))
    fails("stale-merge", *of("jsonl"), "-o", "all.json", cwd=folder, code=3, says="but not the 8 that were listed")


def test_the_merged_results_can_be_evaluated(folder: Path) -> None:
    run("stale-merge", *of("jsonl"), "-o", "all.json", cwd=folder)
    annotations = [{"label": "polo", "segment": [0.0, 0.5]}]
    truth = {f"video{n}": {"duration": 1, "subset": "validation", "annotations": annotations} for n in range(7)}
    (folder / "truth.json").write_text(json.dumps({"database": truth}))
    done = run("stale-eval", "all.json", "--ground-truth", "truth.json", cwd=folder)
    assert done.returncode == 0, done.stderr


def test_a_video_without_duration_fails_where_others_have_one_as_in_one_run(tmp_path: Path, bundle: Path) -> None:
    make_folder_of_two(tmp_path, bundle)
    one = run("stale-run", *BARE, "-o", "one.json", cwd=tmp_path)
    assert one.returncode == 5
    assert "nothing says how long" in one.stderr
    for index in range(2):
        run("stale-run", *BARE, "--shard", f"{index}/2", "-o", f"{index}.jsonl", cwd=tmp_path)
    done = run("stale-merge", "0.jsonl", "1.jsonl", "-o", "all.json", cwd=tmp_path)
    assert done.returncode == 5
    assert "error: bare: nothing says how long its video lasts" in done.stderr
    assert (tmp_path / "all.json").read_bytes() == (tmp_path / "one.json").read_bytes()


def make_folder_of_two(folder: Path, bundle: Path) -> None:
    """Features with a duration beside them, and features without, which belong to different shards of two."""
    (folder / "feats").mkdir()
    (folder / "stale_bundle").symlink_to(bundle)
    (folder / "classes.txt").write_text("polo\n")
    with_duration = next(f"a{n}" for n in range(99) if shard_index(f"a{n}", 2) != shard_index("bare", 2))
    for name in (with_duration, "bare"):
        np.save(folder / "feats" / f"{name}.npy", features_of(30))
    origin = FeatureOrigin(recipe=UNKNOWN_RECIPE, duration_s=80.0, snippets=30, source_sha256="0" * 64)
    (folder / "feats" / f"{with_duration}.recipe.json").write_bytes(origin.to_bytes())


def test_parts_without_an_end_need_a_list(folder: Path) -> None:
    """As Ray writes them: no metadata, in any order, some rows twice."""
    import pyarrow as pa
    from pyarrow import parquet

    table = parquet.read_table(folder / "one.parquet").replace_schema_metadata(None)
    (folder / "parts").mkdir()
    parquet.write_table(table.slice(4), folder / "parts" / "a.parquet")
    parquet.write_table(pa.concat_tables([table.slice(2, 3), table.slice(0, 2)]), folder / "parts" / "b.parquet")
    fails("stale-merge", "parts", "-o", "all.json", cwd=folder, code=3, says="say with --videos FILE which videos")
    paths = sorted(path.name for path in (folder / "feats").iterdir())
    (folder / "list.txt").write_text("".join(f"s3://bucket/v_{name}\n" for name in paths))
    for form in FORMATS:
        done = run("stale-merge", "parts", "--videos", "list.txt", "-o", f"all.{form}", cwd=folder)
        assert done.returncode == 5, done.stderr
        assert "1 videos were there more than once, with equal results" in done.stderr
        assert (folder / f"all.{form}").read_bytes() == (folder / f"one.{form}").read_bytes()
    parquet.write_table(table.select(["video"]), folder / "list.parquet")
    assert run("stale-merge", "parts", "--videos", "list.parquet", "-o", "all.json", cwd=folder).returncode == 5
    (folder / "list.txt").write_text("\n".join(["video0", "more", "even more"]))
    says = "2 of 3 videos of --videos are missing: 'more', 'even more'"
    fails("stale-merge", "parts", "--videos", "list.txt", "-o", "b.json", cwd=folder, code=3, says=says)
    (folder / "list.txt").write_text("video0\n")
    says = "7 videos are not in --videos"
    fails("stale-merge", "parts", "--videos", "list.txt", "-o", "b.json", cwd=folder, code=3, says=says)
    place = table.schema.get_field_index("detections")
    other = table.set_column(place, "detections", pa.array([[]] * 8, table.schema.field(place).type))
    parquet.write_table(other, folder / "parts" / "c.parquet")
    fails(
        "stale-merge", "parts", "--incomplete", "-o", "b.json", cwd=folder, code=3, says="'video0' is also in parts/b"
    )
