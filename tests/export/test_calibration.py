from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from stale_export.calibration import (
    CALIBRATED,
    TAILS,
    Activations,
    Calibration,
    logit_errors,
    read_calibration,
)
from stale_export.graph_builder import serialize
from stale_export.graph_runner import run_on_video
from stale_export.localizer_graph import LINEARS, localizer_model, watched_name
from stale_export.schemes import PORTABLE_BITS, DynamicScheme
from stale_export.validation_gate import read_validation
from stale_runtime.bundle import layout
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.errors import DatasetError, FeatureError, QuantizationError
from stale_runtime.inputs.features import resample
from tests import tiny
from tests.export.int8 import annotate, calibration, draw_videos, encode, write_videos

Read = Callable[..., Calibration]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_videos(tmp_path / "training", draw_videos(12, T=30))


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def read(folder: Path, said: list[str]) -> Read:
    def run(*, count: int = 5, seed: int = 0, unwanted: tuple[str, ...] = (), of: Path = folder) -> Calibration:
        return read_calibration(
            of,
            count=count,
            seed=seed,
            channels=tiny.CHANNELS,
            length=tiny.LENGTH,
            unwanted=unwanted,
            say=said.append,
        )

    return run


def test_a_seed_draws_the_same_videos_and_another_seed_others(read: Read, said: list[str]) -> None:
    first, again, other = read(seed=3), read(seed=3), read(seed=4)
    assert list(first.features) == list(again.features)
    assert len(first.features) == len(other.features) == 5
    assert first.features.keys() != other.features.keys()
    assert (first.seed, other.seed, said) == (3, 4, [])


def test_the_choice_does_not_depend_on_what_else_was_copied_first(read: Read, tmp_path: Path) -> None:
    backwards = dict(reversed(draw_videos(12, T=30).items()))
    other = write_videos(tmp_path / "other", backwards)
    (other / "notes.txt").write_text("not a video")
    assert list(read().features) == list(read(of=other).features)


def test_videos_are_resampled_and_named_without_their_prefix(read: Read) -> None:
    drawn = read(count=100)
    assert drawn.features.keys() == draw_videos(12).keys()
    expected = resample(draw_videos(12, T=30)["video7"], tiny.LENGTH)
    np.testing.assert_array_equal(drawn.features["video7"], expected)


def test_the_norm_is_that_of_a_middling_snippet(read: Read) -> None:
    features = np.concatenate(list(read(count=100).features.values()))
    assert read(count=100).norm == pytest.approx(np.median(np.linalg.norm(features, axis=1)))


def test_a_broken_file_is_left_out_and_said_and_another_takes_its_place(
    read: Read, folder: Path, said: list[str]
) -> None:
    broken = next(iter(read().features))
    (folder / f"v_{broken}.npy").write_bytes(b"\x93NUMPY, or not")
    drawn = read()
    assert broken not in drawn.features
    assert len(drawn.features) == 5
    assert len(said) == 1
    assert said[0].startswith(f"left out: {folder}/v_{broken}.npy: ")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_file_with_values_that_are_none_is_left_out(read: Read, folder: Path, said: list[str], value: float) -> None:
    np.save(folder / "v_video3.npy", np.full((30, tiny.CHANNELS), value, np.float32))
    assert "video3" not in read(count=100).features
    assert "v_video3.npy" in said[0]


def test_features_of_another_width_are_named(read: Read, tmp_path: Path, said: list[str]) -> None:
    wide = write_videos(tmp_path / "wide", draw_videos(2, C=2 * tiny.CHANNELS))
    with pytest.raises(DatasetError, match=r"--calibration .*wide: no usable file .*shape \(16, 32\)"):
        read(of=wide)
    assert len(said) == 2


def test_an_empty_folder_and_none_at_all_are_named(read: Read, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(FeatureError, match=r"--calibration .*/empty: no \.npy files in this folder"):
        read(of=tmp_path / "empty")
    with pytest.raises(FeatureError, match=r"--calibration .*/nowhere: No such file"):
        read(of=tmp_path / "nowhere")
    with pytest.raises(FeatureError, match=r"--calibration .*/file: "):
        read(of=tmp_path / "file")


def test_a_video_of_the_validation_is_a_leak(read: Read, folder: Path, tmp_path: Path) -> None:
    network = tiny.make_network()
    annotations = annotate(tmp_path / "gt.json", network, encode(network), {"video4": draw_videos(5)["video4"]})
    validation = read_validation(annotations, folder, subset="validation", channels=tiny.CHANNELS, length=tiny.LENGTH)
    with pytest.raises(DatasetError, match=r"--calibration .*training: contains 1 of the .* the first is video4"):
        read(unwanted=tuple(validation.features))
    with pytest.raises(DatasetError, match=r"contains 2 of"):  # also videos that would not have been drawn
        read(count=1, unwanted=("video4", "video5", "another"))
    assert read(unwanted=("another",)).features


def test_what_goes_into_each_layer_is_watched() -> None:
    network, drawn = tiny.make_network(), calibration()
    prompts = encode(network)
    schemes = Activations(network, drawn, prompts).schemes("minmax", PORTABLE_BITS)
    assert tuple(schemes) == CALIBRATED
    session = open_session(serialize(localizer_model(network, watch=True)), name="watched", threads=1)
    for linear, scheme in schemes.items():
        parts = [run_on_video(session, video, prompts, [watched_name(linear)])[0] for video in drawn.features.values()]
        low, high = min(part.min() for part in parts), max(part.max() for part in parts)
        assert scheme.scale == pytest.approx((high - low) / 255)
        assert scheme.zero_point == round(-low / scheme.scale)
    features = np.stack(list(drawn.features.values()))
    snippets = network.snippet_embedding(*[torch.from_numpy(features)] * 2).detach().numpy()
    assert schemes["masks.hidden"].scale == pytest.approx(np.ptp(snippets) / 255, rel=1e-4)


def test_longer_tails_give_narrower_ranges() -> None:
    network = tiny.make_network()
    activations = Activations(network, calibration(), encode(network))
    widths = [[scheme.scale for scheme in activations.schemes(tail, 7).values()] for tail in TAILS]
    assert next(iter(TAILS)) == "minmax"
    for wide, narrow in pairwise(widths):
        assert (np.array(wide) >= narrow).all()
    assert (np.array(widths[0]) > widths[-1]).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_refused(value: float) -> None:
    network = tiny.make_network()
    prompts = encode(network)
    with torch.no_grad():
        network.snippet_embedding.norm.bias[2] = value
    with pytest.raises(QuantizationError, match=r"^masks\.hidden: NaN or infinite activations .* checkpoint damaged"):
        Activations(network, calibration(), prompts)


def test_errors_are_those_of_the_class_activations() -> None:
    network, videos = tiny.make_network(), list(draw_videos(5).values())
    prompts = encode(network)
    exact = serialize(localizer_model(network))
    rough, fine = (
        serialize(localizer_model(network, {linear: DynamicScheme(weight_bits=bits) for linear in LINEARS}))
        for bits in (4, 7)  # 8 saturate on some CPUs
    )
    errors = list(logit_errors([exact, fine, rough], exact, videos, prompts))
    assert errors[0] == 0 < errors[1] < errors[2]
    outputs = [
        [run_on_video(session, video, prompts, [layout.CAS_LOGITS])[0] for video in videos]
        for session in (open_session(model, name="x", threads=1) for model in (fine, exact))
    ]
    squares = [((ours - theirs) ** 2).mean() for ours, theirs in zip(*outputs, strict=True)]
    assert errors[1] == pytest.approx(np.sqrt(np.median(squares)))


def test_watching_changes_nothing() -> None:
    network = tiny.make_network()
    video, prompts = draw_videos(1)["video0"], encode(network)
    plain, watched = (
        open_session(serialize(localizer_model(network, watch=watch)), name="x", threads=1) for watch in (False, True)
    )
    names = {output.name for output in watched.get_outputs()} - {output.name for output in plain.get_outputs()}
    assert names == {watched_name(linear) for linear in LINEARS}
    for output in layout.LOCALIZER_OUTPUTS:
        ours, theirs = (run_on_video(session, video, prompts, [output]) for session in (plain, watched))
        np.testing.assert_array_equal(ours, theirs)
