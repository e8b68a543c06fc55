import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import CLIPTextModelWithProjection

from stale_model.checkpoints.clip import read_clip_parts
from stale_model.demo.demo_clip import CHANNELS, DemoClip, make_clip
from stale_model.demo.demo_command import SEEN, SPLITS, UNSEEN, class_directions, demo, draw_timelines, write_demo
from stale_model.demo.demo_videos import draw_video_features
from stale_runtime import read_features, read_ground_truth, read_prompts
from stale_runtime.errors import DatasetError
from stale_runtime.evaluation.ground_truth import AnnotatedVideo

TRAINING, VALIDATION, SEED = 6, 10, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "data"
    write_demo(folder, videos=TRAINING, validation_videos=VALIDATION, seed=SEED)
    return folder


@pytest.fixture(scope="module")
def clip() -> DemoClip:
    return make_clip(SPLITS["all"], SEED)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unit(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    rows = rows.astype(np.float64)
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def inside(video: AnnotatedVideo, count: int, label: str | None = None) -> NDArray[np.bool_]:
    """Which snippets lie in a segment, of one class or any."""
    assert video.duration_s is not None
    time_s = (np.arange(count) + 0.5) / count * video.duration_s
    rows = [row for row in video.annotations if label in (None, row.label)]
    return np.asarray(np.any([(row.start_s <= time_s) & (time_s < row.end_s) for row in rows], axis=0))


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(folder: Path, tmp_path: Path) -> None:
    write_demo(tmp_path / "again", videos=TRAINING, validation_videos=VALIDATION, seed=SEED)
    assert contents(tmp_path / "again") == contents(folder)
    write_demo(tmp_path / "other", videos=1, validation_videos=1, seed=SEED + 1)
    other = contents(tmp_path / "other")
    for name in ("clip/model.safetensors", "features/v_training_0000.npy"):
        assert other[name] != contents(folder)[name]


def test_a_video_does_not_depend_on_how_many_there_are(folder: Path, tmp_path: Path) -> None:
    write_demo(tmp_path / "less", videos=2, validation_videos=3, seed=SEED)
    fewer, more = contents(tmp_path / "less"), contents(folder)
    assert sum(name.startswith("features/") for name in fewer) == 5
    assert all(more[name] == content for name, content in fewer.items() if name != "annotations.json")
    fewer, more = (json.loads(files["annotations.json"])["database"] for files in (fewer, more))
    assert fewer.items() <= more.items()


def test_the_runtime_reads_every_file(folder: Path) -> None:
    for split, names in SPLITS.items():
        assert read_prompts(folder / "splits" / f"{split}.txt").names == names
    videos = read_ground_truth(folder / "annotations.json").videos
    assert len(videos) == TRAINING + VALIDATION == len(list((folder / "features").iterdir()))
    for name in videos:
        features = read_features(folder / "features" / f"v_{name}.npy", CHANNELS)
        assert features.dtype == np.float16
        assert 60 <= len(features) <= 400
        assert np.linalg.norm(features.astype(np.float32), axis=1) == pytest.approx(10, rel=0.2)


def test_unseen_classes_are_not_trained_on(folder: Path) -> None:
    assert not set(SEEN) & set(UNSEEN)
    training = read_ground_truth(folder / "annotations.json", subset="training").videos
    validation = read_ground_truth(folder / "annotations.json", subset="validation").videos
    assert {row.label for video in training.values() for row in video.annotations} <= set(SEEN)
    kinds = [{row.label in UNSEEN for row in video.annotations} for video in validation.values()]
    assert kinds == [{False}, {True}] * (VALIDATION // 2)


def test_unseen_classes_are_made_of_words_that_are_seen() -> None:
    assert {word for name in UNSEEN for word in name.lower().split()} <= set(" ".join(SEEN).lower().split())


def test_timelines_are_like_those_of_activitynet() -> None:
    videos = draw_timelines("training", 400, seed=0)
    counts = [len(video.annotations) for video in videos]
    longest = [max(row.end_s - row.start_s for row in video.annotations) / video.duration_s for video in videos]
    single = [len({row.label for row in video.annotations}) == 1 for video in videos]
    assert set(counts) == {1, 2, 3}
    assert 0.33 < np.mean(np.array(longest) > 0.6) < 0.6
    assert 0.85 < np.mean(single) < 1
    for video in videos:
        assert 20 <= video.duration_s <= 220
        edges = [edge for row in video.annotations for edge in (row.start_s, row.end_s)]
        assert edges == sorted(edges)
        assert edges[0] >= 0
        assert edges[-1] <= video.duration_s


def test_transformers_loads_the_tower_as_it_is(folder: Path, clip: DemoClip, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded: Any = CLIPTextModelWithProjection.from_pretrained(folder / "clip", output_loading_info=True)
    tower, loading = loaded
    assert not any(loading.values())
    assert not re.search("warn|missing|newly|unexpected", capfd.readouterr().err, re.IGNORECASE)
    parts = read_clip_parts(str(folder / "clip"))
    assert (parts.text_config.projection_dim, parts.text_config.max_position_embeddings) == (CHANNELS, 77)
    tokenizer = Tokenizer.from_str(parts.tokenizer_json.decode())
    assert parts.text_config.vocab_size == tokenizer.get_vocab_size()
    read = DemoClip(tower=tower, tokenizer=tokenizer, text_config=clip.text_config)
    np.testing.assert_array_equal(read.embed(SEEN), clip.embed(SEEN))


def test_the_tokenizer_knows_the_words_and_spells_all_else(clip: DemoClip) -> None:
    def tokens(text: str) -> list[str]:
        return list(clip.tokenizer.encode(text).tokens)

    start, end = "<|startoftext|>", "<|endoftext|>"
    assert tokens("A video  of action Washing a CAR") == [
        start,
        *["a", "video", "of", "action", "washing", "a", "car"],
        end,
    ]
    assert tokens("cars") == [start, "c", "a", "r", "s</w>", end]
    printable = "".join(map(chr, range(32, 127)))
    for text in (printable, *printable.split(), "écluse, 氷"):
        assert end not in tokens(text)[1:-1], "an unknown token"


def test_prompts_of_different_classes_are_apart(clip: DemoClip) -> None:
    embeddings = clip.embed(SPLITS["all"])
    assert embeddings.shape == (20, CHANNELS)
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(10, rel=0.5)
    cosines = unit(embeddings) @ unit(embeddings).T
    assert cosines[~np.eye(20, dtype=bool)].max() < 0.95
    assert cosines[~np.eye(20, dtype=bool)].mean() < 0.6


@pytest.mark.parametrize("names", [SEEN, UNSEEN], ids=["seen", "unseen"])
def test_snippets_show_their_class_where_it_happens(folder: Path, clip: DemoClip, names: tuple[str, ...]) -> None:
    directions = unit(clip.embed(SPLITS["all"]))
    margins = []
    for name, video in read_ground_truth(folder / "annotations.json").videos.items():
        label = video.annotations[0].label
        if label not in names:
            continue
        features = unit(read_features(folder / "features" / f"v_{name}.npy", CHANNELS))
        cosine = features @ directions[SPLITS["all"].index(label)]
        margins.append(
            cosine[inside(video, len(features), label)].mean() - cosine[~inside(video, len(features))].mean()
        )
    assert len(margins) >= 5
    assert min(margins) > 0.05
    assert np.mean(margins) < 0.3, "too easy"


def test_without_the_class_a_video_shows_nothing_of_it(clip: DemoClip) -> None:
    video = draw_timelines("training", 1, SEED)[0]
    directions = class_directions(clip)
    label = video.annotations[0].label
    shown = draw_video_features(video, directions, SEED).astype(np.float32) @ directions[label]
    hidden = draw_video_features(video, {name: 0 * row for name, row in directions.items()}, SEED) @ directions[label]
    assert shown.mean() > 5 * abs(hidden.mean())


@pytest.mark.parametrize("what", ["file inside", "file"])
def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path, what: str) -> None:
    target = tmp_path / "data"
    if what == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "mine.txt").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(DatasetError, match="data: exists and is not empty; give a new folder"):
        write_demo(target, videos=1, validation_videos=0)
    assert contents(tmp_path) == before


def test_what_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(_videos: object) -> list[None]:
        raise OSError(28, "No space left on device")

    with pytest.raises(DatasetError, match="No space left on device; make room"):
        write_demo(tmp_path / "data", videos=1, validation_videos=0, watch=fail)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_as_such_also_of_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes = Path.write_bytes

    def fill(path: Path, data: bytes) -> int:
        if path.suffix == ".npy":
            raise OSError(28, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(DatasetError, match="data: No space left on device; make room"):
        write_demo(tmp_path / "data", videos=1, validation_videos=0)
    assert not list(tmp_path.iterdir())


def test_the_command_fills_an_empty_folder_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    result = CliRunner().invoke(demo, [str(tmp_path / "data"), "--videos", "2", "--validation-videos", "1"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"{tmp_path / 'data'}: 2 training and 1 validation videos of 15 seen and 5 unseen")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        *("annotations.json", "clip", "features", "splits")
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
