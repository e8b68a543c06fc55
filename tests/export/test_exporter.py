import dataclasses
import hashlib
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from stale_export import export_bundle, exporter
from stale_export.bundle_writer import write_bundle
from stale_export.exporter import PACKAGES
from stale_export.localizer_graph import cross_queries
from stale_export.parity import LIMITS
from stale_model import StaleConfig, TrainedStale, read_original_checkpoint
from stale_runtime import Localizer, Prompts, __version__
from stale_runtime.bundle.arrays import pack_arrays, unpack_arrays
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.manifest import FORMAT_VERSION, Manifest
from stale_runtime.decoding.action_masks import all_rows
from stale_runtime.decoding.decoders import DEFAULT_DECODER
from stale_runtime.decoding.mask_interpolation import most_exact_rows
from stale_runtime.errors import CheckpointError, ExportError, ParityError, PromptError
from stale_runtime.inference.bundle_check import self_test
from stale_runtime.inference.text_encoder import Tokenizer
from tests import tiny

LOCALIZER, TEXT_ENCODER = "localizer.fp32.onnx", "text_encoder.onnx"
INT8 = {"localizer.int8.onnx", "localizer.int8-dynamic.onnx"}
TORCH = {"localizer.torch.pth", "localizer.torch-int8.pth"}
FILES = {LOCALIZER, TEXT_ENCODER, "tokenizer.json", "prompts.npz", "selftest.npz", *INT8, *TORCH}
QUERIES = tiny.CONFIG.heads * tiny.CHANNELS
TEXTS = [f"a video of action {name}" for name in tiny.CLASSES]

Export = Callable[..., Manifest]


@pytest.fixture
def manifest(bundle: Path) -> Manifest:
    return Bundle(bundle).manifest


@pytest.fixture
def export(
    trained: TrainedStale,
    localizer_model_bytes: bytes,
    text_model_bytes: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Export:
    """Exports to ``tmp_path / "bundle"`` with graphs that are ready, since tracing takes seconds."""

    def run(of: TrainedStale = trained, names: tuple[str, ...] = tiny.CLASSES) -> Manifest:
        return export_bundle(of, Prompts.of(names), tmp_path / "bundle", say=lambda _: None)

    for name, data in (("localizer_model", localizer_model_bytes), ("text_encoder_model", text_model_bytes)):
        model = onnx.load_from_string(data)
        monkeypatch.setattr(exporter, name, lambda *_, ready=model: ready)
    return run


def rebuild(bundle: Path, output: Path, **changed: bytes) -> Bundle:
    """A bundle with other contents, and a manifest that fits them."""
    contents = {path.name: path.read_bytes() for path in bundle.iterdir() if path.name != "manifest.json"}
    write_bundle(output, Bundle(bundle).manifest, contents | {f"{name}.npz": data for name, data in changed.items()})
    return Bundle(output)


def test_the_manifest_round_trips(bundle: Path, manifest: Manifest) -> None:
    data = (bundle / "manifest.json").read_bytes()
    assert manifest.to_bytes() == data
    assert Manifest.from_bytes(data) == manifest


def test_the_manifest_lists_every_file_with_its_digest(bundle: Path, manifest: Manifest) -> None:
    assert manifest.files.keys() == FILES == {path.name for path in bundle.iterdir()} - {"manifest.json"}
    for name, record in manifest.files.items():
        content = (bundle / name).read_bytes()
        assert (record.sha256, record.size) == (hashlib.sha256(content).hexdigest(), len(content)), name


def test_the_manifest_says_what_the_checkpoint_was(manifest: Manifest, checkpoint: Path, clip_folder: Path) -> None:
    content = checkpoint.read_bytes()
    assert manifest.source.format == "original"
    assert manifest.source.sha256 == hashlib.sha256(content).hexdigest()
    assert manifest.source.size == len(content)
    assert (manifest.channels, manifest.temporal_scale) == (tiny.CHANNELS, tiny.LENGTH)
    assert manifest.heads == tiny.CONFIG.heads
    assert (manifest.format_version, manifest.decoder) == (FORMAT_VERSION, DEFAULT_DECODER)
    spec = manifest.text_encoder
    assert (spec.clip, spec.context_length, spec.pad_token) == (clip_folder.name, tiny.CONTEXT, 54)
    assert spec.prompt_template == "a video of action {}"
    tokenizer = Tokenizer((clip_folder / "tokenizer.json").read_bytes(), spec)
    assert [*spec.prefix, spec.pad_token] == tokenizer.rows(["a video of action"])[0]


def test_the_manifest_says_what_made_it(manifest: Manifest) -> None:
    assert manifest.versions == {"stale-edge": __version__, **{name: version(name) for name in PACKAGES}}
    assert {"torch", "onnxruntime"} <= manifest.versions.keys()


def test_the_manifest_describes_the_graphs(manifest: Manifest) -> None:
    assert manifest.graphs.keys() == {LOCALIZER, TEXT_ENCODER, *INT8}
    localizer = manifest.graphs[LOCALIZER]
    assert [(tensor.name, tensor.shape) for tensor in (*localizer.inputs, *localizer.outputs)] == [
        ("features", ("B", "S", tiny.CHANNELS)),
        ("length", ()),
        ("prompts", ("K", tiny.CHANNELS)),
        ("queries", ("K", QUERIES)),
        ("mask_rows", ("P", tiny.LENGTH)),
        ("mask_lift", ("T", "P")),
        ("cas_logits", ("B", "K+1", "T")),
        ("kept", ("B", "T")),
        ("kept_mask", ("B", "T")),
        ("mask_logits", ("B", tiny.LENGTH, "T")),
    ]
    encoder = manifest.graphs[TEXT_ENCODER]
    assert [(tensor.name, tensor.shape) for tensor in (*encoder.inputs, *encoder.outputs)] == [
        ("token_ids", ("K", "L")),
        ("embeddings", ("K", tiny.CHANNELS)),
        ("queries", ("K", QUERIES)),
    ]


def test_the_manifest_proves_parity(manifest: Manifest) -> None:
    outputs = {(record.file, record.output) for record in manifest.parity}
    assert outputs == {
        (LOCALIZER, "cas_logits"),
        (LOCALIZER, "kept"),
        (LOCALIZER, "kept_mask"),
        (LOCALIZER, "action_masks"),
        (TEXT_ENCODER, "embeddings"),
        (TEXT_ENCODER, "queries"),
    }
    for record in manifest.parity:
        assert 0 <= record.deviation <= record.limit == LIMITS[record.output]
    localizer = [record for record in manifest.parity if record.file == LOCALIZER]
    assert {record.length for record in localizer} == {
        tiny.LENGTH,
        most_exact_rows(tiny.LENGTH, manifest.mask_nodes or 0) + 37,
    }
    assert len({record.batch for record in localizer}) == 3
    assert {1, len(tiny.CLASSES)} <= {record.classes for record in localizer}
    encoder = [record for record in manifest.parity if record.file == TEXT_ENCODER and record.output == "queries"]
    assert sum(record.classes for record in encoder) == len(tiny.CLASSES)


def test_the_manifest_names_no_place_on_the_machine(bundle: Path, checkpoint: Path) -> None:
    for path in bundle.iterdir():
        assert str(checkpoint.parent).encode() not in path.read_bytes(), path.name


def test_the_prompts_are_the_towers_embeddings_and_the_networks_queries(
    bundle: Path, trained: TrainedStale, manifest: Manifest
) -> None:
    arrays = unpack_arrays((bundle / "prompts.npz").read_bytes(), "prompts.npz")
    assert arrays["texts"].tolist() == TEXTS
    ids = Tokenizer((bundle / "tokenizer.json").read_bytes(), manifest.text_encoder)(TEXTS)
    with torch.no_grad():
        expected = [trained.tower(torch.from_numpy(row[None]))[0].numpy() for row in ids]
    embeddings, queries = np.split(arrays["vectors"], [tiny.CHANNELS], axis=1)
    np.testing.assert_allclose(embeddings, np.stack(expected), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(queries, cross_queries(trained.network, torch.from_numpy(embeddings)).numpy())
    for part in (embeddings, queries):
        assert np.ptp(part, axis=0).max() > 1e-3  # other prompts, other vectors


def test_the_tokenizer_is_clips(bundle: Path, clip_folder: Path) -> None:
    assert (bundle / "tokenizer.json").read_bytes() == (clip_folder / "tokenizer.json").read_bytes()


def test_the_self_test_passes(bundle: Path) -> None:
    checks = [check for check in self_test(Bundle(bundle)) if not check.what.startswith("openvino")]
    assert all(check.passed for check in checks)
    compared = [check for check in checks if check.deviation is not None]
    assert len(compared) == 15
    exact = [check.deviation for check in compared if check.measure == "deviation" and "int8" not in check.what]
    assert len(exact) == 4
    assert all(deviation is not None and deviation <= 1e-4 for deviation in exact)


@pytest.mark.parametrize("name", ["cas_logits", "action_masks", "embeddings", "queries"])
def test_the_self_test_fails_where_the_recording_differs(bundle: Path, tmp_path: Path, name: str) -> None:
    recorded = unpack_arrays((bundle / "selftest.npz").read_bytes(), "selftest.npz")
    recorded[name][-1, -1] += 0.2 if name == "queries" else 0.01
    checks = list(self_test(rebuild(bundle, tmp_path / "bundle", selftest=pack_arrays(recorded))))
    failed = {check.what.split()[-1] for check in checks if not check.passed}
    assert name in failed
    assert failed <= {name, "cas_logits"}  # which depend on embeddings and queries


def test_the_self_test_replays_the_torch_network(bundle: Path, trained: TrainedStale) -> None:
    recorded = unpack_arrays((bundle / "selftest.npz").read_bytes(), "selftest.npz")
    features, embeddings = (torch.from_numpy(recorded[name]) for name in ("features", "embeddings"))
    with torch.no_grad():
        expected = trained.network.localize(features[None], trained.network.with_background(embeddings))
    np.testing.assert_array_equal(recorded["cas_logits"], expected.cas_logits[0].numpy())
    np.testing.assert_array_equal(recorded["action_masks"], expected.action_masks[0].numpy())
    np.testing.assert_array_equal(recorded["queries"], cross_queries(trained.network, embeddings).numpy())
    assert recorded["names"].tolist() == list(tiny.CLASSES)


def test_the_same_checkpoint_gives_the_same_bundle(bundle: Path, export: Export, tmp_path: Path) -> None:
    written = export()
    for path in bundle.iterdir():
        assert (tmp_path / "bundle" / path.name).read_bytes() == path.read_bytes(), path.name
    assert written == Bundle(bundle).manifest
    assert {record.file for record in written.parity} == {LOCALIZER, TEXT_ENCODER}


def test_a_detection_is_the_same_through_torch(bundle: Path, trained: TrainedStale) -> None:
    localizer = Localizer.open(bundle)
    features = np.random.default_rng(1).standard_normal((tiny.LENGTH, tiny.CHANNELS)).astype(np.float32)
    prompts = localizer.encode_prompts(tiny.CLASSES)
    outputs = localizer.outputs(features, prompts)
    network = trained.network
    with torch.no_grad():
        embeddings = network.with_background(torch.from_numpy(prompts.embeddings.copy()))
        expected = network.localize(torch.from_numpy(features)[None], embeddings)
    np.testing.assert_allclose(outputs.cas_logits, expected.cas_logits[0].numpy(), rtol=0, atol=2e-4)
    np.testing.assert_allclose(all_rows(outputs.masks), expected.action_masks[0].numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("part", ["network", "tower"])
def test_a_graph_of_other_weights_is_not_written(
    trained: TrainedStale, export: Export, tmp_path: Path, part: str
) -> None:
    with torch.no_grad():
        trained.network.mask_localizer.kernel[0, 0] += 0.1 if part == "network" else 0
        trained.tower.clip.text_projection.weight[0, 0] += 0.1 if part == "tower" else 0
    with pytest.raises(ParityError, match=LOCALIZER if part == "network" else TEXT_ENCODER):
        export(trained)
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_stays_when_the_export_fails(trained: TrainedStale, export: Export, tmp_path: Path) -> None:
    export()
    before = {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()}
    with torch.no_grad():
        trained.network.mask_localizer.kernel[0, 0] += 0.1
    with pytest.raises(ExportError):
        export(trained)
    assert {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()} == before


def test_a_class_name_that_is_too_long_is_named(export: Export, tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"^prompt 2: \d+ tokens, the text tower takes 77"):
        export(names=("polo", "a " * 70))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "tokenizer",
    [b"", b"{}", b"\xff\xfe", b'{"two\n": "lines"}', b"no end token"],
    ids=["empty", "{}", "bytes", "other", "no end"],
)
def test_a_tokenizer_that_is_none_is_refused(
    trained: TrainedStale, export: Export, tmp_path: Path, tokenizer: bytes
) -> None:
    if tokenizer == b"no end token":
        content = trained.clip.tokenizer_json.replace(b"<|endoftext|>", b"<|fin|>")
        tokenizer = json.dumps(json.loads(content)).encode()
    clip = dataclasses.replace(trained.clip, tokenizer_json=tokenizer)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json") as caught:
        export(dataclasses.replace(trained, clip=clip))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [1, 65, 130])
def test_any_number_of_classes_can_be_carried(export: Export, tmp_path: Path, count: int) -> None:
    names = tuple(f"{chr(97 + n // 26)} {chr(97 + n % 26)}" for n in range(count))
    export(names=names)
    arrays = unpack_arrays((tmp_path / "bundle" / "prompts.npz").read_bytes(), "prompts.npz")
    assert arrays["texts"].tolist() == [f"a video of action {name}" for name in names]
    assert arrays["vectors"].shape == (count, tiny.CHANNELS + QUERIES)
    assert len(np.unique(arrays["vectors"][:, : tiny.CHANNELS].round(6), axis=0)) == count


@pytest.mark.slow
def test_a_network_of_the_published_sizes_is_exported(tmp_path: Path) -> None:
    config = StaleConfig()
    folder = tiny.write_clip_folder(tmp_path / "clip")
    content = json.loads((folder / "config.json").read_text())
    content["text_config"]["projection_dim"] = content["projection_dim"] = config.channels
    (folder / "config.json").write_text(json.dumps(content))
    state = tiny.upstream_state(tiny.make_network(config=config), tiny.make_tower(folder))
    trained = read_original_checkpoint(tiny.save_checkpoint(tmp_path / "best.pth", state), str(folder))
    export_bundle(trained, Prompts.of(tiny.CLASSES), tmp_path / "bundle", say=lambda _: None)
    bundle = Bundle(tmp_path / "bundle")
    assert (bundle.manifest.channels, bundle.manifest.temporal_scale) == (512, 100)
    at_trained_length = [record for record in bundle.manifest.parity if record.length == 100]
    assert {record.output for record in at_trained_length} == {"cas_logits", "kept", "kept_mask", "action_masks"}
    assert all(record.deviation <= record.limit for record in bundle.manifest.parity)
    assert all(check.passed for check in self_test(bundle))
