"""The int8 graphs as the runtime sees them: which backend is run, what it says, and how the self-test judges it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from stale_export.bundle_writer import write_bundle
from stale_export.graph_builder import serialize
from stale_export.graph_runner import localize_video
from stale_export.localizer_graph import localizer_model
from stale_export.quantization import dynamic_schemes
from stale_export.schemes import PORTABLE_BITS, VNNI_BITS
from stale_runtime import Localizer
from stale_runtime.bundle import layout
from stale_runtime.bundle.arrays import pack_arrays, unpack_arrays
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.decoding.action_masks import all_rows
from stale_runtime.errors import BackendError, BundleError
from stale_runtime.inference import backends
from stale_runtime.inference.backends import LOCALIZER_BACKENDS, default_backend
from stale_runtime.inference.bundle_check import INT8_COSINE, Check, replay_name, self_test
from stale_runtime.inference.forward_pass import EncodedPrompts
from tests import tiny
from tests.export.graphs import whole_outputs
from tests.export.int8 import BY_ROWS, EXACT, SATURATING, draw_videos, ruin, run_emulated

EXACT_BACKENDS = {name: b for name, b in LOCALIZER_BACKENDS.items() if b.file != layout.LOCALIZER_FAST}
"""``ort-fast`` has tests of its own, see test_guarded_pass."""
FILES = {name: backend.file for name, backend in EXACT_BACKENDS.items() if backend.engine == "onnxruntime"}
INT8 = ("ort-int8", "ort-int8-dynamic")
MEAN, REPLAY = "mean deviation", "mean deviation from the export"


@pytest.fixture(autouse=True)
def onnx_runtime_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO has tests of its own."""
    monkeypatch.setattr(backends, "find_spec", lambda _: None)


def rebuilt(
    bundle: Path, output: Path, contents: dict[str, bytes], *, without: Sequence[str] = (), **manifest: Any
) -> Bundle:
    """A bundle with other files or fewer, and a manifest that fits them."""
    files = {path.name: path.read_bytes() for path in bundle.iterdir() if path.name != "manifest.json"} | contents
    for name in without:
        del files[name]
    write_bundle(output, replace(Bundle(bundle).manifest, **manifest), files)
    return Bundle(output)


def recording(bundle: Path) -> dict[str, NDArray[Any]]:
    return unpack_arrays((bundle / layout.SELF_TEST).read_bytes(), layout.SELF_TEST)


def recorded_prompts(bundle: Path) -> EncodedPrompts:
    arrays = recording(bundle)
    return EncodedPrompts(tuple(arrays["names"].tolist()), arrays["embeddings"], arrays["queries"])


def failed(bundle: Bundle) -> set[tuple[str, str]]:
    """What does not pass the self-test, and by which measure."""
    return {(check.what, check.measure) for check in self_test(bundle) if not check.passed}


# Which is run


def test_int8_is_run_where_its_map_is_proved(int8_bundle: Path) -> None:
    manifest = Bundle(int8_bundle).manifest
    (record,) = (record for record in manifest.quantization if record.file == FILES["ort-int8"])
    assert record.map_percent is not None
    assert default_backend(manifest).name == Localizer.open(int8_bundle).backend == "ort-int8"


def test_fp32_is_run_where_nothing_is_proved(bundle: Path) -> None:
    manifest = Bundle(bundle).manifest
    assert FILES["ort-int8"] in {record.file for record in manifest.quantization}
    assert default_backend(manifest).name == Localizer.open(bundle).backend == "ort-fp32"
    assert default_backend(replace(manifest, quantization=())).name == "ort-fp32"


def test_the_proof_of_another_graph_does_not_count(int8_bundle: Path) -> None:
    manifest = Bundle(int8_bundle).manifest
    records = tuple(
        replace(record, map_percent=None) if record.file == FILES["ort-int8"] else record
        for record in manifest.quantization
    )
    assert any(record.map_percent is not None for record in records)
    assert default_backend(replace(manifest, quantization=records)).name == "ort-fp32"


@pytest.mark.parametrize("backend", FILES)
def test_a_graph_that_is_not_there_is_named(int8_bundle: Path, tmp_path: Path, backend: str) -> None:
    name = FILES[backend]
    lacking = rebuilt(int8_bundle, tmp_path / "bundle", {}, without=[name])
    others = [other for other in FILES if other != backend]
    says = f"{backend}: the bundle was exported without {name}; give {' or '.join(others)}, or a bundle"
    with pytest.raises(BackendError, match=says):
        Localizer.open(lacking.path, backend=backend)
    assert [Localizer.open(lacking.path, backend=other).backend for other in others] == others


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        (["ort-fp32", "ort-int8-dynamic"], "ort-int8"),
        (["ort-int8"], "ort-fp32"),
        (["ort-fp32", "ort-int8"], "ort-int8-dynamic"),
    ],
)
def test_a_graph_that_is_there_is_run(int8_bundle: Path, tmp_path: Path, without: list[str], expected: str) -> None:
    lacking = rebuilt(int8_bundle, tmp_path / "bundle", {}, without=[FILES[name] for name in without])
    assert Localizer.open(lacking.path).backend == expected


def test_int8_is_run_without_a_proof_if_there_is_nothing_else(bundle: Path, tmp_path: Path) -> None:
    lacking = rebuilt(bundle, tmp_path / "bundle", {}, without=[FILES["ort-fp32"]])
    assert Localizer.open(lacking.path).backend == "ort-int8"


def test_a_bundle_without_any_graph_is_a_bad_bundle(bundle: Path, tmp_path: Path) -> None:
    nothing = rebuilt(bundle, tmp_path / "bundle", {}, without=list(FILES.values()))
    with pytest.raises(BundleError, match=r"no graph for any of ort-fp32, ort-int8, .*; copy the bundle again"):
        Localizer.open(nothing.path)


# What it says


@pytest.mark.parametrize("backend", FILES)
@pytest.mark.parametrize("snippets", [1, 7, 16, 40])
@pytest.mark.parametrize("length", [None, 33])
def test_every_backend_finds_the_same_in_videos_of_any_length(
    int8_bundle: Path, backend: str, snippets: int, length: int | None
) -> None:
    features = draw_videos(1, T=snippets)["video0"]
    exact, localizer = (Localizer.open(int8_bundle, backend=name, length=length) for name in ("ort-fp32", backend))
    prompts = exact.encode_prompts(tiny.CLASSES)
    expected, found = (opened.outputs(features, prompts) for opened in (exact, localizer))
    for ours, theirs in zip(whole_outputs(found), whole_outputs(expected), strict=True):
        assert ours.shape == theirs.shape
        assert np.isfinite(ours).all()
        assert (backend == "ort-fp32") == np.array_equal(ours, theirs)
    masks = np.abs(all_rows(found.masks) - all_rows(expected.masks))
    assert masks.mean() < 0.005
    assert localizer.detect(features, prompts).detections


def test_the_graphs_differ(int8_bundle: Path) -> None:
    contents = {(int8_bundle / name).read_bytes() for name in FILES.values()}
    assert len(contents) == len(FILES)


# The self-test


def test_it_passes_and_covers_every_backend(int8_bundle: Path) -> None:
    checks = [check for check in self_test(Bundle(int8_bundle)) if check.deviation is not None]
    assert all(check.passed for check in checks)
    covered = {(check.what, check.measure) for check in checks}
    graphs = {
        (f"{backend}: {output}", measure)
        for backend in FILES
        for output in layout.FULL_MASK_OUTPUTS
        for measure in ((MEAN, REPLAY) if backend in INT8 else ("deviation",))
    }
    graphs |= {(f"{backend}: kept_mask", "deviation from the rows' mean") for backend in FILES}
    texts = {(f"text encoder: {output}", "1 - cosine") for output in ("embeddings", "queries")}
    assert covered == graphs | texts
    by_name = {(check.what, check.measure): check for check in checks}
    for what, measure in covered:
        deviation = by_name[what, measure].deviation
        assert deviation is not None
        assert (deviation == 0) == (measure == REPLAY)  # on the same machine; and int8 is not float


def test_only_graphs_that_are_there_are_run(int8_bundle: Path, tmp_path: Path) -> None:
    arrays = recording(int8_bundle)
    for output in layout.FULL_MASK_OUTPUTS:
        del arrays[replay_name("ort-int8", output)]
    lacking = rebuilt(
        int8_bundle, tmp_path / "bundle", {layout.SELF_TEST: pack_arrays(arrays)}, without=[FILES["ort-int8"]]
    )
    checks = list(self_test(lacking))
    assert all(check.passed for check in checks)
    assert {check.what.split(":")[0] for check in checks if check.deviation is not None} == {
        "text encoder",
        "ort-fp32",
        "ort-int8-dynamic",
    }
    nothing = rebuilt(int8_bundle, tmp_path / "nothing", {}, without=list(FILES.values()))
    with pytest.raises(BundleError, match="no graph for any of ort-fp32, ort-int8, ort-int8-dynamic"):
        list(self_test(nothing))


@pytest.mark.parametrize("linear", ["masks.hidden", "adaptation.output"])
def test_a_wrong_scale_fails_although_it_is_what_was_exported(
    int8_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linear: str
) -> None:
    ruin(monkeypatch, linear, by=1.5)
    schemes = dynamic_schemes(PORTABLE_BITS)
    model = serialize(localizer_model(tiny.make_network(), schemes))
    arrays = recording(int8_bundle)
    session = open_session(model, name="ruined", threads=1)
    outputs = whole_outputs(localize_video(session, arrays["features"], recorded_prompts(int8_bundle)))
    for output, value in zip(layout.FULL_MASK_OUTPUTS, outputs, strict=True):
        arrays[replay_name("ort-int8", output)] = value
    contents = {FILES["ort-int8"]: model, layout.SELF_TEST: pack_arrays(arrays)}
    found = failed(rebuilt(int8_bundle, tmp_path / "bundle", contents))
    assert found
    assert found <= {(f"ort-int8: {output}", MEAN) for output in layout.FULL_MASK_OUTPUTS}


@pytest.mark.parametrize("bits", [PORTABLE_BITS, VNNI_BITS])
def test_saturation_fails_where_weights_have_8_bits(int8_bundle: Path, tmp_path: Path, bits: int) -> None:
    """The recording is what a CPU with, or without VNNI would say, whichever this one is."""
    network, arrays = tiny.make_network(), recording(int8_bundle)
    schemes = dynamic_schemes(bits)
    model = serialize(localizer_model(network, schemes))
    passed = []
    for name, kernels in (("exact", EXACT), ("saturating", SATURATING)):
        outputs = run_emulated(network, arrays["features"], recorded_prompts(int8_bundle), kernels, bits=bits)
        for output, value in zip(layout.FULL_MASK_OUTPUTS, outputs, strict=True):
            arrays[replay_name("ort-int8", output)] = value
        contents = {FILES["ort-int8"]: model, layout.SELF_TEST: pack_arrays(arrays)}
        found = failed(rebuilt(int8_bundle, tmp_path / f"bundle-{name}", contents))
        assert {what for what, _ in found} <= {f"ort-int8: {output}" for output in layout.FULL_MASK_OUTPUTS}
        passed.append(not any(measure == REPLAY for _, measure in found))
    assert sorted(passed) == ([True, True] if bits == PORTABLE_BITS else [False, True])


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_rounding_by_rows_passes_in_dynamic_graphs_alone(int8_bundle: Path, tmp_path: Path, kind: str) -> None:
    arrays, name = recording(int8_bundle), "ort-int8-dynamic"
    prompts = recorded_prompts(int8_bundle)
    outputs = run_emulated(tiny.make_network(), arrays["features"], prompts, BY_ROWS, bits=PORTABLE_BITS)
    for output, value in zip(layout.FULL_MASK_OUTPUTS, outputs, strict=True):
        arrays[replay_name(name, output)] = value
    records = tuple(
        replace(record, kind=kind) if record.file == FILES[name] else record
        for record in Bundle(int8_bundle).manifest.quantization
    )
    contents = {layout.SELF_TEST: pack_arrays(arrays)}
    found = failed(rebuilt(int8_bundle, tmp_path / "bundle", contents, quantization=records))
    assert found == (set() if kind == "dynamic" else {(f"{name}: action_masks", REPLAY)})


def test_an_int8_text_encoder_that_means_something_else_fails(int8_bundle: Path, tmp_path: Path) -> None:
    parsed = onnx.load_from_string((int8_bundle / layout.TEXT_ENCODER).read_bytes())
    weights = [node.input[1] for node in parsed.graph.node if node.op_type == "MatMulInteger"]
    (tensor,) = (tensor for tensor in parsed.graph.initializer if tensor.name == weights[0])
    tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
    ruined = rebuilt(int8_bundle, tmp_path / "bundle", {layout.TEXT_ENCODER: parsed.SerializeToString()})
    assert failed(ruined) == {(f"text encoder: {output}", "1 - cosine") for output in ("embeddings", "queries")}


def test_a_recorded_embedding_of_zeros_fails(int8_bundle: Path, tmp_path: Path) -> None:
    arrays = recording(int8_bundle)
    arrays["embeddings"] = np.zeros_like(arrays["embeddings"])
    changed = rebuilt(int8_bundle, tmp_path / "bundle", {layout.SELF_TEST: pack_arrays(arrays)})
    assert ("text encoder: embeddings", "1 - cosine") in failed(changed)
    assert not Check("x", float("nan"), INT8_COSINE, "1 - cosine").passed


@pytest.mark.parametrize("change", ["lacking", "short", "integers"])
def test_a_recording_without_the_int8_outputs_is_refused(int8_bundle: Path, tmp_path: Path, change: str) -> None:
    arrays = recording(int8_bundle)
    name = replay_name("ort-int8", "cas_logits")
    value = arrays.pop(name)
    if change != "lacking":
        arrays[name] = value[1:] if change == "short" else value.astype(np.int64)
    crafted = rebuilt(int8_bundle, tmp_path / "bundle", {layout.SELF_TEST: pack_arrays(arrays)})
    with pytest.raises(BundleError, match=r"^selftest\.npz: not a recording of this network's outputs"):
        list(self_test(crafted))


def test_an_int8_graph_without_a_record_is_held_to_the_limits_of_float(int8_bundle: Path, tmp_path: Path) -> None:
    records = [
        record for record in Bundle(int8_bundle).manifest.quantization if record.file != FILES["ort-int8-dynamic"]
    ]
    arrays = recording(int8_bundle)
    for output in layout.FULL_MASK_OUTPUTS:
        del arrays[replay_name("ort-int8-dynamic", output)]
    contents = {layout.SELF_TEST: pack_arrays(arrays)}
    unsaid = rebuilt(int8_bundle, tmp_path / "bundle", contents, quantization=tuple(records))
    assert failed(unsaid) == {(f"ort-int8-dynamic: {output}", "deviation") for output in layout.FULL_MASK_OUTPUTS}
