import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_runtime import Localizer, Prompts, Settings, Timeline, VideoDetections
from stale_runtime.bundle import layout
from stale_runtime.bundle.arrays import pack_arrays, unpack_arrays
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.decoding.action_masks import all_rows
from stale_runtime.errors import BundleError, ChecksumError, DatasetError, FeatureError, PromptError
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.inference.text_encoder import PromptVectors, TextEncoder
from stale_runtime.inputs.features import resample
from tests import tiny
from tests.runtime.helpers import altered, with_file

Features = NDArray[np.float32]
C, QUERIES = tiny.CHANNELS, tiny.CONFIG.heads * tiny.CHANNELS
WIDTH = C + QUERIES


@pytest.fixture(scope="module")
def localizer(bundle: Path) -> Localizer:
    return Localizer.open(bundle)


def numbers(video: VideoDetections) -> NDArray[np.float64]:
    """Start, end and score of each detection: (N, 3)."""
    return np.array([row[1:] for row in video.detections], dtype=np.float64).reshape(-1, 3)


def _fail(*_: object, **__: object) -> None:
    raise AssertionError("the text tower is opened")


@pytest.fixture
def no_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextEncoder, "__init__", _fail)


@pytest.fixture
def no_tower_after_first(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Localizer:
    """A localizer that has encoded "judo" and cannot open the text tower again."""
    localizer = Localizer.open(bundle)
    localizer.encode_prompts(["judo"])
    monkeypatch.setattr(TextEncoder, "__init__", _fail)
    return localizer


@pytest.mark.usefixtures("no_tower")
def test_known_prompts_need_no_text_tower(localizer: Localizer) -> None:
    encoded = localizer.encode_prompts(["polo", "long jump"])
    assert encoded.names == ("polo", "long jump")
    assert encoded.embeddings.shape == (2, C)
    assert encoded.queries.shape == (2, QUERIES)
    assert encoded.embeddings.dtype == encoded.queries.dtype == np.float32
    swapped = localizer.encode_prompts(["long jump", "polo"])
    np.testing.assert_array_equal(encoded.embeddings, swapped.embeddings[::-1])
    np.testing.assert_array_equal(encoded.queries, swapped.queries[::-1])


def test_known_prompts_are_those_of_the_file(localizer: Localizer) -> None:
    arrays = unpack_arrays(localizer.bundle.read("prompts.npz"), "prompts.npz")
    encoded = localizer.encode_prompts(tiny.CLASSES)
    np.testing.assert_array_equal(np.hstack([encoded.embeddings, encoded.queries]), arrays["vectors"])


def test_known_prompts_are_embedded_as_the_tower_does(localizer: Localizer, bundle: Path) -> None:
    expected = TextEncoder(Bundle(bundle)).encode(tiny.CLASSES)
    encoded = localizer.encode_prompts(tiny.CLASSES)
    np.testing.assert_allclose(encoded.embeddings, expected.embeddings, rtol=0, atol=1e-5)
    np.testing.assert_allclose(encoded.queries, expected.queries, rtol=0, atol=1e-4)


def test_an_unknown_prompt_opens_the_tower_once(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, private_cache: Path
) -> None:
    localizer = Localizer.open(bundle)
    encoded: list[Sequence[str]] = []
    original = TextEncoder.encode

    def spy(self: TextEncoder, names: Sequence[str], places: Sequence[str] | None = None) -> PromptVectors:
        encoded.append(names)
        return original(self, names, places)

    monkeypatch.setattr(TextEncoder, "encode", spy)
    names = ["polo", "yoga", "archery", "judo"]
    first = localizer.encode_prompts(names)
    assert encoded == [["yoga", "judo"]]
    for second in (localizer.encode_prompts(names), Localizer.open(bundle).encode_prompts(names)):
        np.testing.assert_array_equal(second.embeddings, first.embeddings)
        np.testing.assert_array_equal(second.queries, first.queries)
    assert len(encoded) == 1
    assert len([path for path in private_cache.rglob("*") if path.is_file()]) == 2


def test_cached_prompts_are_what_the_tower_made_of_them_to_the_bit(bundle: Path) -> None:
    names = ["yoga", "table tennis", "judo"]
    expected = TextEncoder(Bundle(bundle)).encode(names)
    for encoded in (Localizer.open(bundle).encode_prompts(names), Localizer.open(bundle).encode_prompts(names)):
        np.testing.assert_array_equal(encoded.embeddings, expected.embeddings)
        np.testing.assert_array_equal(encoded.queries, expected.queries)
    later = Localizer.open(bundle).encode_prompts(["judo", "polo", "yoga"])
    np.testing.assert_array_equal(later.embeddings[[0, 2]], expected.embeddings[[2, 0]])
    np.testing.assert_array_equal(later.queries[[0, 2]], expected.queries[[2, 0]])


def test_prompts_are_read_from_the_disk_once(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    localizer = Localizer.open(bundle)
    first = localizer.encode_prompts(["polo", "yoga"])
    for forbidden in ("open", "os.open", "stale_runtime.bundle.bundle.Bundle.read"):
        monkeypatch.setattr(f"builtins.{forbidden}" if "." not in forbidden else forbidden, _fail)
    for again in (localizer.encode_prompts(["polo", "yoga"]), localizer.encode_prompts(Prompts.of(["polo", "yoga"]))):
        np.testing.assert_array_equal(again.embeddings, first.embeddings)
        np.testing.assert_array_equal(again.queries, first.queries)
    assert localizer.encode_prompts(tiny.CLASSES).names == tiny.CLASSES


def test_split_names_are_encoded_as_words(bundle: Path) -> None:
    localizer = Localizer.open(bundle)
    apart, joined, split = (
        localizer.encode_prompts(Prompts(names=(name,), places=("prompt 1",), split_names=split_names))
        for name, split_names in (("Long jump", False), ("LongJump", False), ("LongJump", True))
    )
    assert split.names == joined.names == ("LongJump",)
    np.testing.assert_array_equal(split.embeddings, apart.embeddings)
    assert not np.allclose(split.embeddings, joined.embeddings)


def test_neutral_of_the_closed_set_is_not_detected(bundle: Path, features: NDArray[np.float32]) -> None:
    localizer = Localizer.open(bundle, decoder="upstream")
    names = [f"class {n}" for n in range(201)]
    best = localizer.detect(features, names).detections[0].label
    closed = ["Neutral" if name == best else name for name in names]
    prompts = localizer.encode_prompts(names)._replace(names=tuple(closed))
    rows = localizer.detect(features, prompts).detections
    assert rows
    assert "Neutral" not in {row.label for row in rows}


def test_encoded_prompts_cannot_be_changed(bundle: Path) -> None:
    localizer = Localizer.open(bundle)
    for array in localizer.encode_prompts(["polo", "archery"])[1:]:
        assert isinstance(array, np.ndarray)
        assert array.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            array += 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.setflags(write=True)


def test_one_string_is_not_a_list_of_prompts(bundle: Path) -> None:
    localizer = Localizer.open(bundle)
    localizer.encode_prompts(["a", "b"])
    with pytest.raises(PromptError, match="one string 'ab', expected a list of class names"):
        localizer.encode_prompts("ab")


def test_cached_prompts_need_no_text_tower(bundle: Path, no_tower_after_first: Localizer) -> None:
    again = no_tower_after_first.encode_prompts(["judo", "polo"])
    assert again.queries.shape == (2, QUERIES)
    with pytest.raises(AssertionError, match="the text tower is opened"):
        Localizer(Bundle(bundle), Settings(cache=False)).encode_prompts(["judo"])


def test_without_a_cache_the_disk_is_left_alone(bundle: Path, private_cache: Path, tmp_path: Path) -> None:
    Localizer(Bundle(bundle), Settings(cache=False)).encode_prompts(["yoga"])
    assert not list(private_cache.iterdir())
    Localizer(Bundle(bundle), Settings(cache_folder=tmp_path / "mine")).encode_prompts(["yoga"])
    assert not list(private_cache.iterdir())
    assert list((tmp_path / "mine").iterdir())


def test_a_user_without_a_home_is_served(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("STALE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert Localizer.open(bundle).encode_prompts(["yoga"]).embeddings.shape == (1, tiny.CHANNELS)


def test_prompts_that_are_too_long_are_named_by_place(localizer: Localizer) -> None:
    prompts = Prompts(names=("polo", "x" * tiny.CONTEXT), places=("classes.txt, line 1", "classes.txt, line 9"))
    with pytest.raises(PromptError, match=rf"^classes\.txt, line 9: \d+ tokens, the text tower takes {tiny.CONTEXT}"):
        localizer.encode_prompts(prompts)
    with pytest.raises(PromptError, match="no prompts"):
        localizer.encode_prompts([])


def test_detections_are_inside_the_video_and_best_first(localizer: Localizer, features: Features) -> None:
    found = localizer.detect(features, tiny.CLASSES, video="abc")
    assert (found.video, found.duration_s) == ("abc", None)
    assert 0 < len(found.detections) <= 100
    assert {row.label for row in found.detections} <= set(tiny.CLASSES)
    assert all(0 <= row.start <= row.end <= 1 for row in found.detections)
    scores = [row.score for row in found.detections]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("decoder", ["standard", "upstream"])
def test_a_duration_gives_seconds(bundle: Path, features: Features, decoder: str) -> None:
    localizer = Localizer.open(bundle, decoder=decoder)
    fractions = localizer.detect(features, tiny.CLASSES)
    seconds = localizer.detect(features, tiny.CLASSES, duration_s=48.9)
    assert seconds.duration_s == 48.9
    assert len(seconds.detections) == len(fractions.detections) > 0
    assert [row.label for row in seconds.detections] == [row.label for row in fractions.detections]
    np.testing.assert_allclose(numbers(seconds), numbers(fractions) * [48.9, 48.9, 1])


def test_encoded_prompts_give_the_same_as_names(localizer: Localizer, features: Features) -> None:
    encoded = localizer.encode_prompts(tiny.CLASSES)
    assert localizer.detect(features, encoded) == localizer.detect(features, Prompts.of(tiny.CLASSES))


def test_labels_go_with_the_order_of_prompts(localizer: Localizer, features: Features) -> None:
    forwards = localizer.detect(features, ["polo", "archery", "yoga"])
    backwards = localizer.detect(features, ["yoga", "archery", "polo"])
    assert [row.label for row in forwards.detections] == [row.label for row in backwards.detections]
    np.testing.assert_allclose(numbers(forwards), numbers(backwards), rtol=1e-4)


@pytest.mark.parametrize("length", [16, 33, 100])
def test_every_length_gives_outputs_of_that_length(bundle: Path, features: Features, length: int) -> None:
    localizer = Localizer.open(bundle, length=length)
    encoded = localizer.encode_prompts(["polo", "yoga"])
    cas_logits, masks, _ = localizer.outputs(features, encoded)
    action_masks = all_rows(masks)
    assert cas_logits.shape == (3, length)
    assert action_masks.shape == (length, length)
    assert ((action_masks >= 0) & (action_masks <= 1)).all()


@pytest.mark.parametrize(
    ("snippets", "length", "auto"),
    [(1, 16, 16), (16, 16, 16), (17, 16, 16), (32, 16, 16), (33, 16, 32), (31, 100, 16), (5000, 4096, 32)],
)
def test_the_length_is_chosen_by_the_video_if_asked_to(bundle: Path, snippets: int, length: int, auto: int) -> None:
    assert Localizer.open(bundle, length=length).length_for(snippets) == length
    assert Localizer.open(bundle, length="auto").length_for(snippets) == auto
    assert Localizer.open(bundle).length_for(snippets) == tiny.LENGTH


def test_auto_stays_within_what_graphs_are_exported_for(bundle: Path, tmp_path: Path) -> None:
    long = Localizer.open(altered(bundle, tmp_path / "copy", temporal_scale=3000), length="auto")
    assert [long.length_for(snippets) for snippets in (10, 3000, 6000, 6001)] == [3000, 3000, 3000, 4096]


@pytest.mark.parametrize("decoder", ["standard", "upstream"])
def test_auto_detects_as_the_length_it_chooses(bundle: Path, features: Features, decoder: str) -> None:
    for video, length in ((features[:10], 16), (features, 32)):
        auto = Localizer.open(bundle, length="auto", decoder=decoder, window="off").detect(video, tiny.CLASSES)
        assert auto == Localizer.open(bundle, length=length, decoder=decoder).detect(video, tiny.CLASSES)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("snippets", "length"), [(1, 16), (15, 16), (15, 100), (16, 16), (40, 16), (40, 100), (40, 40)]
)
def test_features_are_prepared_as_the_graph_takes_them(bundle: Path, snippets: int, length: int, dtype: type) -> None:
    """Features of fewer snippets than the length and than channels are not resampled: the graph does it, faster."""
    features: NDArray[Any] = np.random.default_rng(0).standard_normal((snippets, C)).astype(dtype)
    localizer = Localizer.open(bundle, length=length)
    prompts = localizer.encode_prompts(["polo", "archery"])
    inputs = localizer.graph_inputs(localizer.prepare(features, prompts))
    assert tuple(inputs) == layout.LOCALIZER_INPUTS
    np.testing.assert_array_equal(inputs["prompts"], prompts.embeddings)
    np.testing.assert_array_equal(inputs["queries"], prompts.queries)
    expected = features if snippets < min(length, C) else resample(features, length)
    np.testing.assert_array_equal(inputs["features"], expected.astype(np.float32)[None])
    assert inputs["features"].dtype == np.float32
    assert inputs["length"].dtype == np.int64
    assert inputs["length"].shape == ()
    assert inputs["length"] == length


@pytest.mark.parametrize("snippets", [1, 2, 9, 15])
@pytest.mark.parametrize("length", [16, 33, 100])
def test_a_short_video_is_what_it_is_resampled_beforehand(bundle: Path, snippets: int, length: int) -> None:
    localizer = Localizer.open(bundle, length=length)
    encoded = localizer.encode_prompts(["polo", "yoga"])
    video = np.random.default_rng(snippets).standard_normal((snippets, C)).astype(np.float32) * 2
    inside = localizer.outputs(video, encoded)
    beforehand = localizer.outputs(resample(video, length), encoded)
    np.testing.assert_allclose(all_rows(inside.masks), all_rows(beforehand.masks), rtol=0, atol=1e-5)
    np.testing.assert_allclose(inside.cas_logits, beforehand.cas_logits, rtol=0, atol=2e-4)


def test_every_precision_and_layout_gives_the_same(localizer: Localizer, features: Features) -> None:
    features = features.astype(np.float16).astype(np.float32)
    expected = localizer.detect(features, tiny.CLASSES)
    for other in (features.astype(np.float64), features.astype(np.float16), np.asfortranarray(features)):
        assert localizer.detect(other, tiny.CLASSES) == expected


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e6, 1e20, 3e38])
def test_features_of_any_size_give_finite_scores_or_a_feature_error(
    bundle: Path, features: Features, size: float
) -> None:
    features = (features / np.abs(features).max() * size).astype(np.float32)
    for decoder in ("standard", "upstream"):
        try:
            found = Localizer.open(bundle, decoder=decoder).detect(features, tiny.CLASSES)
        except FeatureError:
            assert size > 1e6
            continue
        assert np.isfinite(numbers(found)).all()


@pytest.mark.parametrize("duration_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_duration_that_is_none_is_refused(localizer: Localizer, features: Features, duration_s: float) -> None:
    with pytest.raises(ValueError, match="duration"):
        localizer.detect(features, tiny.CLASSES, duration_s=duration_s)


def test_wrong_features_are_refused(localizer: Localizer, features: Features) -> None:
    with pytest.raises(FeatureError, match=r"features\.T"):
        localizer.detect(features[:7].T, tiny.CLASSES)
    with pytest.raises(FeatureError, match="0 snippets"):
        localizer.detect(features[:0], tiny.CLASSES)


def test_a_bad_file_does_not_stop_the_others(localizer: Localizer, features: Features, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.npy" for name in ("v_a", "bad", "missing", "b", "untimed")]
    for path in (paths[0], paths[3], paths[4]):
        np.save(path, features)
    paths[1].write_bytes(b"nonsense")
    timeline = Timeline(durations_s={"a": 10.0, "b": 20.0, "bad": 1.0, "missing": 1.0})
    outcomes = list(localizer.detect_many(iter(paths), tiny.CLASSES, timeline=timeline))
    assert [outcome.path for outcome in outcomes] == paths
    errors = [type(outcome.error) for outcome in outcomes]
    assert errors == [type(None), FeatureError, FeatureError, type(None), DatasetError]
    found = [outcome.result() for outcome in outcomes if outcome.error is None]
    assert [(video.video, video.duration_s) for video in found] == [("a", 10.0), ("b", 20.0)]
    assert found[0].detections == localizer.detect(features, tiny.CLASSES, duration_s=10.0).detections
    with pytest.raises(FeatureError, match=r"bad\.npy"):
        outcomes[1].result()


def test_many_are_detected_one_at_a_time(localizer: Localizer, features: Features, tmp_path: Path) -> None:
    outcomes = localizer.detect_many([tmp_path / "a.npy"], tiny.CLASSES)
    np.save(tmp_path / "a.npy", features)  # only read once it is asked for
    assert next(outcomes).error is None
    with pytest.raises(PromptError):
        next(localizer.detect_many([tmp_path / "a.npy"], ["polo", "polo"]))


def test_snippets_give_the_duration_as_extracted(localizer: Localizer, features: Features, tmp_path: Path) -> None:
    np.save(tmp_path / "v_abc.npy", features)
    found = localizer.detect_file(tmp_path / "v_abc.npy", tiny.CLASSES, timeline=Timeline(snippet_s=0.5))
    assert (found.video, found.duration_s) == ("abc", 20.0)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"backend": "ort"}, "backend 'ort', expected one of ort-fp32"),
        ({"length": 15}, "length 15, expected 16 to 4096 snippets"),
        ({"length": 4097}, "length 4097"),
        ({"length": 0}, "length 0"),
        ({"length": "best"}, "length 'best', expected 16 to 4096 snippets, or auto"),
        ({"length": "100"}, "length '100'"),
        ({"length": 100.5}, "length 100.5"),
        ({"threads": 0}, "threads 0, expected at least 1"),
        ({"classes": 0}, "classes 0, expected at least 1"),
        ({"most_detections": 0}, "most_detections 0, expected at least 1"),
        ({"window": 63}, "window 63, expected 64 to 4096 snippets, auto or off"),
        ({"window": 4097}, "window 4097"),
        ({"window": "on"}, "window 'on'"),
        ({"window": None}, "window None"),
        ({"window": 64, "decoder": "upstream"}, "window 64 with decoder upstream, which looks at whole videos only"),
        ({"classes": 4, "decoder": "upstream"}, "classes 4 with decoder upstream"),
        ({"most_detections": 4, "decoder": "upstream"}, "most_detections 4 with decoder upstream"),
        ({"decoder": "best"}, "decoder 'best', expected one of standard, upstream"),
    ],
)
def test_illegal_settings_are_refused(bundle: Path, wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Settings(**wrong)
    with pytest.raises(ValueError, match=match):
        Localizer.open(bundle, **wrong)


def test_settings_are_used(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stale_runtime.inference.localizer.available_threads", lambda: 2)
    opened = Localizer.open(str(bundle), threads=5, length=50, decoder="upstream")
    assert (opened.threads, opened.length, opened.decoder) == (2, 50, "upstream")
    usual = Localizer.open(bundle)
    assert (usual.threads, usual.length) == (1, tiny.LENGTH)
    assert usual.decoder == usual.bundle.manifest.decoder


def test_the_environment_names_the_bundle(bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="no bundle"):
        Localizer.open()
    monkeypatch.setenv("STALE_BUNDLE", str(bundle))
    assert Localizer.open().bundle.path == bundle


def test_a_damaged_graph_is_found_before_it_is_loaded(bundle: Path, tmp_path: Path) -> None:
    name = "localizer.fp32.onnx"
    data = bytearray((bundle / name).read_bytes())
    copy = with_file(bundle, tmp_path / "copy", name, bytes(data))
    Localizer.open(copy)
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(ChecksumError, match=name):
        Localizer.open(copy)


KNOWN = np.array(["a video of action polo"])


@pytest.mark.parametrize(
    ("texts", "vectors"),
    [
        (np.array(["a", "b"]), np.zeros((1, WIDTH), dtype=np.float32)),
        (np.array("a"), np.zeros((1, WIDTH), dtype=np.float32)),
        (np.array([["a"]]), np.zeros((1, WIDTH), dtype=np.float32)),
        (KNOWN, np.float32(0)),
        (KNOWN, np.zeros((1,), dtype=np.float32)),
        (KNOWN, np.zeros((1, WIDTH - 1), dtype=np.float32)),
        (KNOWN, np.zeros((1, C), dtype=np.float32)),
        (KNOWN, np.zeros((1, WIDTH), dtype=np.int64)),
        (KNOWN, np.array([["x"] * WIDTH])),
        (KNOWN, np.full((1, WIDTH), 1e300)),
        (KNOWN, np.zeros((1, WIDTH), dtype=np.longdouble)),
        (KNOWN, np.full((1, WIDTH), np.nan, dtype=np.float32)),
    ],
)
def test_crafted_vectors_are_a_bundle_error(
    bundle: Path, tmp_path: Path, texts: NDArray[np.str_], vectors: NDArray[Any]
) -> None:
    copy = with_file(bundle, tmp_path / "copy", "prompts.npz", pack_arrays({"texts": texts, "vectors": vectors}))
    with pytest.raises(BundleError, match=r"^prompts\.npz: expected texts and a vector for each"):
        Localizer.open(copy)


def test_what_another_program_packed_is_read(bundle: Path, tmp_path: Path) -> None:
    buffer, vectors = io.BytesIO(), np.arange(WIDTH, dtype=np.float32)[None]
    np.savez(buffer, texts=KNOWN, vectors=vectors)
    copy = with_file(bundle, tmp_path / "copy", "prompts.npz", buffer.getvalue())
    encoded = Localizer.open(copy).encode_prompts(["polo"])
    np.testing.assert_array_equal(encoded.embeddings, vectors[:, :C])
    np.testing.assert_array_equal(encoded.queries, vectors[:, C:])


def test_texts_without_vectors_are_a_bundle_error(bundle: Path, tmp_path: Path) -> None:
    copy = with_file(bundle, tmp_path / "copy", "prompts.npz", pack_arrays({"texts": KNOWN}))
    with pytest.raises(BundleError, match="expected texts and a vector for each"):
        Localizer.open(copy)


@pytest.mark.parametrize(
    "changes",
    [
        {"decoder": "best"},
        *({"temporal_scale": length} for length in (0, -5, 10**15)),
        *({"heads": heads} for heads in (0, -1, -5, tiny.CONFIG.heads + 1, 10**15)),
    ],
)
def test_a_crafted_manifest_is_a_bundle_error(
    bundle: Path, tmp_path: Path, features: Features, changes: dict[str, Any]
) -> None:
    copy = altered(bundle, tmp_path / "copy", **changes)
    with pytest.raises(BundleError):
        Localizer.open(copy).detect(features, tiny.CLASSES)


def test_a_graph_with_other_inputs_is_a_bundle_error(bundle: Path, tmp_path: Path, features: Features) -> None:
    other = (bundle / "text_encoder.onnx").read_bytes()
    copy = with_file(bundle, tmp_path / "copy", "localizer.fp32.onnx", other)
    with pytest.raises(BundleError, match=r"localizer\.fp32\.onnx"):
        Localizer.open(copy).detect(features, tiny.CLASSES)


@pytest.mark.parametrize(
    ("embeddings", "queries"),
    [
        ((1, C + 1), (1, QUERIES)),
        ((1, C), (1, QUERIES - 1)),
        ((1, C), (1, C)),
        ((1, QUERIES), (1, C)),
        ((2, C), (1, QUERIES)),
        ((1, C), (2, QUERIES)),
        ((2, C), (2, QUERIES)),
        ((0, C), (0, QUERIES)),
        ((C,), (QUERIES,)),
        ((1, C), (1, tiny.CONFIG.heads, C)),
    ],
)
def test_encoded_prompts_of_other_shapes_are_refused(
    localizer: Localizer, features: Features, embeddings: tuple[int, ...], queries: tuple[int, ...]
) -> None:
    foreign = EncodedPrompts(("polo",), np.zeros(embeddings, np.float32), np.zeros(queries, np.float32))
    for use in (localizer.detect, localizer.outputs):
        with pytest.raises(
            PromptError, match=r"^encoded prompts of shapes .*; pass what encode_prompts of this localizer"
        ):
            use(features, foreign)


def test_encoded_prompts_of_the_right_shapes_are_taken(localizer: Localizer, features: Features) -> None:
    ours = EncodedPrompts(("polo",), np.ones((1, C), np.float32), np.ones((1, QUERIES), np.float32))
    assert localizer.outputs(features, ours).cas_logits.shape == (2, tiny.LENGTH)
