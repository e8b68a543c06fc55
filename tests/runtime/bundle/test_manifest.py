import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_runtime.bundle.approximation_record import ApproximationAtLength, ApproximationRecord
from stale_runtime.bundle.manifest import (
    FORMAT_VERSION,
    LARGEST_AXIS,
    LONGEST_CONTEXT,
    FileRecord,
    GraphSpec,
    Manifest,
    ParityRecord,
    QuantizationRecord,
    Source,
    TensorSpec,
    TextEncoderSpec,
)
from stale_runtime.errors import BundleError, BundleVersionError, ChecksumError
from stale_runtime.inputs.feature_statistics import FeatureStatistics
from stale_runtime.inputs.recipe import FeatureRecipe, clip_recipe

text = st.text(max_size=8)
whole = st.integers(-(2**63), 2**63)
axis = st.integers(1, LARGEST_AXIS)
token = st.integers(0, 2**31 - 1)
braceless = text.map(lambda drawn: drawn.replace("{", "").replace("}", ""))
number = st.floats(allow_nan=False, allow_infinity=False)


def few(of: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, max_size=2).map(tuple)


tensors = st.builds(TensorSpec, name=text, dtype=text, shape=few(st.one_of(whole, text)))
graphs = st.builds(GraphSpec, inputs=few(tensors), outputs=few(tensors))
manifests = st.builds(
    Manifest,
    format_version=st.just(FORMAT_VERSION),
    versions=st.dictionaries(text, text, max_size=2),
    source=st.builds(Source, format=text, sha256=text, size=whole),
    channels=axis,
    heads=axis,
    temporal_scale=axis,
    decoder=text,
    text_encoder=st.builds(
        TextEncoderSpec,
        clip=text,
        context_length=st.integers(2, LONGEST_CONTEXT),
        pad_token=token,
        prefix=few(token),
        prompt_template=st.tuples(braceless, braceless).map("{}".join),
    ),
    graphs=st.dictionaries(text, graphs, max_size=2),
    parity=few(
        st.builds(
            ParityRecord,
            file=text,
            output=text,
            batch=whole,
            length=whole,
            classes=whole,
            deviation=number,
            limit=number,
        )
    ),
    quantization=few(
        st.builds(
            QuantizationRecord,
            file=text,
            kind=text,
            target=text,
            weight_bits=whole,
            integer_operators_expected=whole,
            integer_operators_found=whole,
            float_layers=few(text),
            range_method=st.one_of(st.none(), text),
            calibration_videos=few(text),
            calibration_seed=st.one_of(st.none(), whole),
            map_percent=st.one_of(st.none(), number),
            fp32_map_percent=st.one_of(st.none(), number),
            validation_videos=st.one_of(st.none(), whole),
            map_change_low=st.one_of(st.none(), number),
            map_change_high=st.one_of(st.none(), number),
        )
    ),
    recipe=st.builds(FeatureRecipe, frames=st.none() | st.integers(1, 1000), normalised=st.none() | st.booleans()),
    files=st.dictionaries(text, st.builds(FileRecord, sha256=text, size=whole), max_size=2),
)

MANIFEST = Manifest(
    format_version=FORMAT_VERSION,
    versions={"stale-edge": "0.1.0"},
    source=Source(format="original", sha256="ab", size=3),
    channels=16,
    heads=2,
    temporal_scale=16,
    decoder="standard",
    text_encoder=TextEncoderSpec(clip="tiny", context_length=24, pad_token=3, prefix=(1, 2), prompt_template="a {}"),
    graphs={"g.onnx": GraphSpec(inputs=(TensorSpec(name="x", dtype="float32", shape=("B", 16)),), outputs=())},
    parity=(ParityRecord(file="g.onnx", output="y", batch=1, length=16, classes=3, deviation=0.0, limit=1e-4),),
    quantization=(),
    files={"g.onnx": FileRecord(sha256="cd", size=5)},
)


STATISTICS = FeatureStatistics(
    videos=3,
    direction=(1.0, *15 * [0.0]),
    cosine_low=0.9,
    norm_low=9.0,
    norm_high=11.0,
    zero_rows_high=0.0,
    snippet_s_low=0.5,
    snippet_s_high=None,
)
"""For features as wide as MANIFEST says."""


def encoded(content: dict[str, Any]) -> bytes:
    """A manifest of any content, with the digest that agrees."""
    content.pop("manifest_sha256", None)
    return _layout({"manifest_sha256": hashlib.sha256(_layout(content)).hexdigest(), **content})


def _layout(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def changed(path: str, value: object) -> bytes:
    content = json.loads(MANIFEST.to_bytes())
    *parents, last = path.split(".")
    target = content
    for key in parents:
        target = target[int(key)] if isinstance(target, list) else target[key]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return encoded(content)


@settings(deadline=None)
@given(manifests)
def test_round_trips(manifest: Manifest) -> None:
    data = manifest.to_bytes()
    assert Manifest.from_bytes(data) == manifest
    assert Manifest.from_bytes(data).to_bytes() == data


def test_the_digest_is_of_everything_else() -> None:
    data = MANIFEST.to_bytes()
    assert encoded(json.loads(data)) == data
    assert data.isascii()


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_changed_byte_is_found(data: st.DataObject) -> None:
    content = bytearray(MANIFEST.to_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BundleError):
        Manifest.from_bytes(bytes(content))


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.binary(max_size=40), st.text('{}[]",:nulltrueNaN0123456789eE-', max_size=30).map(str.encode)))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(BundleError):
        Manifest.from_bytes(data)


@pytest.mark.parametrize("layout", [{"indent": 2}, {"sort_keys": True}, {"indent": 1, "ensure_ascii": True}])
def test_the_same_content_laid_out_otherwise_is_refused(layout: dict[str, Any]) -> None:
    with pytest.raises(ChecksumError, match="damaged or edited by hand"):
        Manifest.from_bytes(json.dumps(json.loads(MANIFEST.to_bytes()), **layout).encode())


def test_recipe_and_statistics_of_features_come_back() -> None:
    recipe = clip_recipe("openai/clip-vit-base-patch16", snippet_s=0.2)
    manifest = replace(MANIFEST, recipe=recipe, feature_statistics=STATISTICS)
    found = Manifest.from_bytes(manifest.to_bytes())
    assert found == manifest
    assert (found.feature_check.recipe, found.feature_check.statistics) == (recipe, STATISTICS)


def test_a_bundle_of_the_version_before_recipes_is_read() -> None:
    content = json.loads(MANIFEST.to_bytes()) | {"format_version": 2}
    del (
        content["recipe"],
        content["feature_statistics"],
        content["vision"],
        content["reading_score"],
        content["mask_nodes"],
        content["approximation"],
    )
    data = encoded(content)
    found = Manifest.from_bytes(data)
    assert found == replace(MANIFEST, format_version=2)
    assert (found.recipe, found.feature_statistics, found.vision) == (FeatureRecipe(), None, None)
    assert found.to_bytes() == data, "its hash identifies the bundle"


def test_a_bundle_of_the_version_before_recipes_has_none() -> None:
    with pytest.raises(BundleError, match="has approximation in format_version 2"):
        Manifest.from_bytes(changed("format_version", 2))


def approximation(**changes: object) -> ApproximationRecord:
    length = ApproximationAtLength(length=100, logits_rms_median=0.02, logits_rms_worst=0.17, guarded_share=0.01)
    values: dict[str, Any] = {"directions": 16, "landmarks": 16, "guard_rows": 7, "guard_limit": 0.5}
    return ApproximationRecord(file="localizer.fast.onnx", **{**values, "lengths": (length,), **changes})


def test_what_was_verified_of_an_approximation_is_read_back() -> None:
    manifest = replace(MANIFEST, approximation=approximation(), mask_nodes=6)
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    older = replace(MANIFEST, format_version=4)
    assert b"approximation" not in older.to_bytes()
    assert Manifest.from_bytes(older.to_bytes()) == older


@pytest.mark.parametrize(
    "changes", [{"guard_limit": -1.0}, {"guard_limit": float("nan")}, {"landmarks": -1}, {"directions": 2**17}]
)
def test_an_approximation_out_of_range_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"^approximation has {next(iter(changes))}"):
        approximation(**changes)


@pytest.mark.parametrize("nodes", [-1, 1, 65])
def test_a_number_of_nodes_that_no_export_takes_is_refused(nodes: int) -> None:
    with pytest.raises(BundleError, match=f"mask_nodes is {nodes}, expected 2 to 64"):
        Manifest.from_bytes(changed("mask_nodes", nodes))


def test_a_graph_that_is_not_described_is_a_bad_bundle() -> None:
    with pytest.raises(BundleError, match=r"does not name the inputs and outputs of no\.onnx"):
        MANIFEST.graph("no.onnx")


def test_a_bundle_of_the_version_before_the_number_of_validation_videos_is_read() -> None:
    record = QuantizationRecord(
        file="g.onnx",
        kind="dynamic",
        target="portable",
        weight_bits=7,
        integer_operators_expected=4,
        integer_operators_found=4,
        map_percent=41.5,
        fp32_map_percent=42.0,
    )
    manifest = replace(MANIFEST, format_version=3, quantization=(record,))
    content = json.loads(manifest.to_bytes())
    assert "validation_videos" not in content["quantization"][0]
    found = Manifest.from_bytes(encoded(content))
    assert (found, found.to_bytes()) == (manifest, manifest.to_bytes())
    content["quantization"][0]["validation_videos"] = 3
    with pytest.raises(BundleError, match="has validation_videos in format_version 3"):
        Manifest.from_bytes(encoded(content))
    content = json.loads(replace(manifest, format_version=FORMAT_VERSION).to_bytes())
    assert content["quantization"][0]["validation_videos"] is None


def test_statistics_of_features_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="features 15 wide, expected 16"):
        replace(MANIFEST, feature_statistics=replace(STATISTICS, direction=STATISTICS.direction[:-1]))


def test_a_repeated_name_is_refused_although_the_digest_agrees() -> None:
    rest = MANIFEST.to_bytes().split(b"\n", 2)[2].replace(b' "heads": 2,', b' "heads": 2,\n "heads": 3,')
    seal = hashlib.sha256(b"{\n" + rest).hexdigest()
    with pytest.raises(ChecksumError, match="damaged or edited by hand"):
        Manifest.from_bytes(b'{\n "manifest_sha256": "' + seal.encode() + b'",\n' + rest)


@pytest.mark.parametrize("version", [0, 1, FORMAT_VERSION + 1, 99])
def test_other_versions_are_refused_before_anything_else(version: int) -> None:
    data = json.dumps({"format_version": version, "unheard": "of"}).encode()
    with pytest.raises(BundleVersionError, match=f"format_version {version}, .*update stale-edge"):
        Manifest.from_bytes(data)


@pytest.mark.parametrize("data", [b"[]", b"3", b"null", b"{}", b'{"format_version": "1"}', b'{"format_version": 1.0}'])
def test_foreign_json_is_said_to_be_foreign(data: bytes) -> None:
    with pytest.raises(BundleError, match="has no format_version, so it is not from stale-edge"):
        Manifest.from_bytes(data)


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("channels", "16", "channels is '16', expected"),
        ("channels", 16.0, "channels is '16.0'"),
        ("channels", True, "channels is 'True'"),
        ("channels", None, "channels is 'None'"),
        ("channels", ..., "top level has .*, expected approximation, channels, decoder"),
        ("surplus", 1, "top level has .*surplus"),
        ("recipe", None, "recipe has NoneType, expected channel_order, deviation"),
        ("recipe.frames", 0, "frames is 0, expected 1 to 1000"),
        ("feature_statistics", {}, "feature_statistics has .*, expected cosine_low, direction"),
        ("source.size", [3], r"source\.size is '\[3\]'"),
        ("heads", ..., "top level has .*, expected .*heads"),
        ("text_encoder.prefix", 3, r"text_encoder\.prefix is '3'"),
        ("text_encoder.prefix", ["a"], r"text_encoder\.prefix\[0\] is 'a'"),
        ("source", 3, "source has int, expected format, sha256, size"),
        ("graphs", [], r"graphs is '\[\]'"),
        ("graphs.g.onnx", None, "g.onnx"),
        ("parity.0.deviation", "0", r"parity\[0\]\.deviation is '0'"),
        ("parity", {}, "parity is '{}'"),
        ("files.g", {"sha256": 3, "size": 3}, r"files\.g\.sha256 is '3'"),
        ("versions", {"numpy": 2}, r"versions\.numpy is '2'"),
    ],
)
def test_wrong_types_are_named_by_place(path: str, value: object, match: str) -> None:
    if path == "graphs.g.onnx":
        content = json.loads(MANIFEST.to_bytes())
        content["graphs"]["g.onnx"] = value
        data = encoded(content)
    else:
        data = changed(path, value)
    with pytest.raises(BundleError, match=match):
        Manifest.from_bytes(data)


def test_a_whole_number_will_do_for_a_float() -> None:
    deviation = Manifest.from_bytes(changed("parity.0.deviation", 0)).parity[0].deviation
    assert isinstance(deviation, float)
    assert deviation == 0


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(constant: str) -> None:
    data = MANIFEST.to_bytes().replace(b'"deviation": 0.0', f'"deviation": {constant}'.encode())
    assert constant.encode() in data
    with pytest.raises(BundleError):
        Manifest.from_bytes(data)


def test_a_number_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(BundleError, match="deviation"):
        Manifest.from_bytes(changed("parity.0.deviation", 10**400))


def test_deep_nesting_is_refused() -> None:
    for depth in (100, 500, *range(840, 1000, 4), 5000):
        data = b'{"format_version": %d, "x": ' % FORMAT_VERSION + b"[" * depth + b"]" * depth + b"}"
        with pytest.raises(BundleError, match="damaged"):
            Manifest.from_bytes(data)


def test_half_a_character_is_refused() -> None:
    with pytest.raises(BundleError, match="damaged"):
        Manifest.from_bytes(changed("text_encoder.clip", "\ud800"))


def test_not_a_number_is_never_written() -> None:
    record = replace(MANIFEST.parity[0], deviation=float("nan"))
    with pytest.raises(ValueError, match="JSON"):
        replace(MANIFEST, parity=(record,)).to_bytes()


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        *((name, value, name) for name in ("channels", "heads", "temporal_scale") for value in (0, -1, 2**17, 10**400)),
        *(("text_encoder.context_length", value, "context_length") for value in (0, 1, -3, 5000)),
        ("text_encoder.pad_token", -1, "token id"),
        ("text_encoder.prefix", [1, 2**40], "token id"),
        *(("text_encoder.prompt_template", value, "template") for value in ("", "a video", "{}{}", "{}" + 2000 * "a")),
    ],
)
def test_numbers_that_no_network_has_are_refused(path: str, value: Any, match: str) -> None:
    with pytest.raises(BundleError, match=match) as caught:
        Manifest.from_bytes(changed(path, value))
    assert len(str(caught.value)) < 200


def test_a_template_is_filled_where_it_says() -> None:
    spec = TextEncoderSpec(clip="tiny", context_length=24, pad_token=3, prefix=(1, 2), prompt_template="a video of {}!")
    assert spec.fill(["polo", "{}", "long jump"]) == ["a video of polo!", "a video of {}!", "a video of long jump!"]
    assert spec.fill([]) == []
