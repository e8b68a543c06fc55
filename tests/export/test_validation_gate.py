import json
from pathlib import Path

import numpy as np
import pytest

from stale_export.graph_builder import serialize
from stale_export.localizer_graph import LINEARS, localizer_model
from stale_export.schemes import DynamicScheme
from stale_export.validation_gate import MapGate, ValidationVideos, read_validation
from stale_model import Stale
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.errors import DatasetError, FeatureError
from stale_runtime.evaluation.ground_truth import read_ground_truth
from stale_runtime.evaluation.mean_average_precision import mean_average_precision
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.inference.localizer import Localizer
from stale_runtime.inference.settings import Settings
from stale_runtime.inputs.features import resample
from tests import tiny
from tests.export.int8 import annotate, draw_videos, encode, ruin, write_videos


@pytest.fixture(scope="module")
def network() -> Stale:
    return tiny.make_network()


@pytest.fixture(scope="module")
def prompts(network: Stale) -> EncodedPrompts:
    return encode(network)


def measure(videos: ValidationVideos, model: bytes, prompts: EncodedPrompts) -> float:
    return MapGate(videos=videos, prompts=prompts, max_drop=0.5).measure(model)


def read(annotations: Path, folder: Path, video_info: Path | None = None) -> ValidationVideos:
    return read_validation(
        annotations,
        folder,
        subset="validation",
        video_info=video_info,
        channels=tiny.CHANNELS,
        length=tiny.LENGTH,
    )


@pytest.fixture
def annotations(tmp_path: Path, network: Stale, prompts: EncodedPrompts) -> Path:
    return annotate(tmp_path / "gt.json", network, prompts, draw_videos(4))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_videos(tmp_path / "features", draw_videos(4))


def test_the_float_graph_finds_what_the_annotations_say_it_finds(
    annotations: Path, folder: Path, network: Stale, prompts: EncodedPrompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = read(annotations, folder)
    exact = measure(videos, serialize(localizer_model(network)), prompts)
    assert 70 < exact <= 100
    ruin(monkeypatch, "embedding.output")
    ruined = localizer_model(network, {linear: DynamicScheme() for linear in LINEARS})
    assert measure(videos, serialize(ruined), prompts) < exact / 2
    assert measure(videos, serialize(localizer_model(tiny.make_network(seed=1))), prompts) < exact / 2


def test_the_map_is_that_of_stale_run_and_stale_eval(bundle: Path, tmp_path: Path) -> None:
    localizer = Localizer(Bundle(bundle), Settings(backend="ort-fp32"))
    prompts = localizer.encode_prompts(tiny.CLASSES)
    network = tiny.make_network()
    annotations = annotate(tmp_path / "gt.json", network, prompts, draw_videos(4), most=3)
    folder = write_videos(tmp_path / "features", draw_videos(4))
    truth = read_ground_truth(annotations, subset="validation")
    found = {
        name: localizer.detect(features, prompts, duration_s=truth.videos[name].duration_s).detections
        for name, features in draw_videos(4).items()
    }
    expected = 100 * mean_average_precision(found, truth).average
    measured = measure(read(annotations, folder), (bundle / "localizer.fp32.onnx").read_bytes(), prompts)
    assert 10 < measured == pytest.approx(expected)


def test_videos_are_resampled_to_the_trained_length(annotations: Path, tmp_path: Path) -> None:
    folder = write_videos(tmp_path / "long", draw_videos(4, T=40))
    videos = read(annotations, folder)
    assert videos.features.keys() == draw_videos(4).keys()
    np.testing.assert_array_equal(videos.features["video2"], resample(draw_videos(4, T=40)["video2"], tiny.LENGTH))


def test_a_video_without_features_or_of_another_subset_is_left_out(annotations: Path, folder: Path) -> None:
    (folder / "v_video0.npy").unlink()
    write_videos(folder, {"unknown": draw_videos(1)["video0"]})
    database = json.loads(annotations.read_text())
    database["database"]["video1"]["subset"] = "training"
    annotations.write_text(json.dumps(database))
    videos = read(annotations, folder)
    assert videos.features.keys() == videos.truth.videos.keys() == {"video2", "video3"}


def test_subsets_come_from_video_info_where_the_annotations_have_none(
    annotations: Path, folder: Path, tmp_path: Path
) -> None:
    database = json.loads(annotations.read_text())["database"]
    original = {
        f"v_{name}": {"duration_second": video["duration"], "annotations": video["annotations"]}
        for name, video in database.items()
    }
    annotations.write_text(json.dumps(original))
    with pytest.raises(DatasetError, match=r"does not say which videos are of subset 'validation'.*--video-info"):
        read(annotations, folder)
    info = tmp_path / "video_info_new.csv"
    subsets = {"v_video0": "training", "v_video1": "validation", "v_video3": "validation"}
    info.write_text("video,subset,seconds\n" + "".join(f"{name},{subset},60\n" for name, subset in subsets.items()))
    videos = read(annotations, folder, video_info=info)
    assert videos.features.keys() == videos.truth.videos.keys() == {"video1", "video3"}


@pytest.mark.parametrize("duration", [None, 0])
def test_a_video_without_duration_is_named(annotations: Path, folder: Path, duration: float | None) -> None:
    database = json.loads(annotations.read_text())
    database["database"]["video2"]["duration"] = duration
    annotations.write_text(json.dumps(database))
    with pytest.raises(DatasetError, match="video 'video2' has no duration, which mAP needs"):
        read(annotations, folder)


def test_features_of_no_annotated_video_are_named(annotations: Path, folder: Path, tmp_path: Path) -> None:
    others = write_videos(tmp_path / "others", draw_videos(2, name="other"))
    with pytest.raises(DatasetError, match=r"--validation-features .*others: 2 files, none of them .*v_video0\.npy"):
        read(annotations, others)
    with pytest.raises(FeatureError, match=r"--validation-features .*nowhere: "):
        read(annotations, tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"nothing\.json"):
        read(tmp_path / "nothing.json", folder)
    database = json.loads(annotations.read_text())
    for video in database["database"].values():
        video["annotations"] = []
    annotations.write_text(json.dumps(database))
    with pytest.raises(DatasetError, match="4 files, none of them of an annotated video"):
        read(annotations, folder)


def test_a_broken_validation_file_is_an_error_and_not_left_out(annotations: Path, folder: Path) -> None:
    (folder / "v_video1.npy").write_bytes(b"")
    with pytest.raises(FeatureError, match=r"v_video1\.npy"):
        read(annotations, folder)
