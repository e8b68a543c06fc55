"""The guard of ``ort-fast``: what it lets pass, and what it leaves to the exact graph."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from stale_runtime import Localizer, Outcome
from stale_runtime.batch.batch import Batch
from stale_runtime.batch.run_report import run_report_json
from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.manifest import QuantizationRecord
from stale_runtime.decoding.action_masks import all_rows
from stale_runtime.errors import BackendError, BundleError
from stale_runtime.inference import guarded_pass
from stale_runtime.inference.backends import (
    LOCALIZER_BACKENDS,
    backend_problem,
    default_backend,
    exact_backend,
    open_backend,
)
from stale_runtime.inference.forward_pass import Outputs
from tests import tiny
from tests.export.approximation import draw_calm_videos, fast_bytes, write_fast_bundle

Array = NDArray[np.float32]
SNIPPETS = 14  # fewer than T and than channels, so that exact graphs resample them themselves
FAST = LOCALIZER_BACKENDS["ort-fast"]


@pytest.fixture(scope="module")
def fast_bundle(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with an approximate graph, whose guard accepts calm videos."""
    folder = tmp_path_factory.mktemp("fast") / "bundle"
    write_fast_bundle(bundle, folder, tiny.make_network(), limit=0.5)
    return folder


def calm() -> Array:
    return draw_calm_videos(1, SNIPPETS, deviation=0.05)[0]


def wild() -> Array:
    return 30 * draw_calm_videos(1, SNIPPETS, seed=1, deviation=2)[0]


def same(ours: Outputs, theirs: Outputs) -> bool:
    """Whether two outputs are equal bit for bit."""
    return np.array_equal(ours.cas_logits, theirs.cas_logits) and np.array_equal(
        all_rows(ours.masks), all_rows(theirs.masks)
    )


def test_a_calm_video_takes_the_approximation_and_a_wild_one_is_bit_equal_to_the_exact_backend(
    fast_bundle: Path,
) -> None:
    fast, exact = (Localizer.open(fast_bundle, backend=name) for name in ("ort-fast", "ort-fp32"))
    prompts = exact.encode_prompts(tiny.CLASSES)
    assert exact_backend(exact.bundle.manifest).name == "ort-fp32"
    assert same(fast.outputs(wild(), prompts), exact.outputs(wild(), prompts))
    assert not same(fast.outputs(calm(), prompts), exact.outputs(calm(), prompts))
    found = [fast.detect(video, prompts) for video in (calm(), wild())]
    assert [video.recomputed for video in found] == [0, 1]
    expected = exact.detect(wild(), prompts)
    assert found[1].detections == expected.detections
    assert expected.recomputed == 0


@pytest.mark.parametrize("backend", ["ort-fast", "ort-fp32"])
def test_what_was_detected_before_changes_no_bit(fast_bundle: Path, tmp_path: Path, backend: str) -> None:
    """So that processes and machines may share the videos of a run in any way."""
    videos: dict[str, NDArray[Any]] = {
        "calm": calm(),
        "wild": wild(),
        "half": calm().astype(np.float16),
        "long": np.concatenate([calm()] * 20),
    }
    paths = [tmp_path / f"{name}.npy" for name in (*videos, "broken")]
    for path, features in zip(paths, videos.values(), strict=False):
        np.save(path, features)
    paths[-1].write_bytes(b"nonsense")

    def detect(paths: list[Path]) -> dict[str, str]:
        outcomes = Localizer.open(fast_bundle, backend=backend).detect_many(paths, tiny.CLASSES)
        return {path.name: str(error) if found is None else found.to_json() for path, found, error in outcomes}

    expected = detect(paths)
    assert len(expected) == 5
    assert detect(paths[::-1]) == expected
    assert {path.name: text for path in paths for text in detect([path]).values()} == expected


def test_the_exact_graph_is_loaded_once_and_only_when_it_is_needed(
    fast_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_counting(backend, *args, **options):  # type: ignore[no-untyped-def]
        opened.append(backend.name)
        return open_backend(backend, *args, **options)

    monkeypatch.setattr(guarded_pass, "open_backend", open_counting)
    localizer = Localizer.open(fast_bundle, backend="ort-fast")
    prompts = localizer.encode_prompts(tiny.CLASSES)
    localizer.detect(calm(), prompts)
    assert opened == ["ort-fast"]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: localizer.detect(wild(), prompts).detections, range(8)))
    assert opened == ["ort-fast", "ort-fp32"]
    assert all(rows == found[0] for rows in found)


def test_windows_are_judged_one_by_one(fast_bundle: Path) -> None:
    """Only the windows that deviate are computed again, and a batch with other windows changes nothing."""
    fast, exact = (Localizer.open(fast_bundle, backend=name) for name in ("ort-fast", "ort-fp32"))
    prompts = exact.encode_prompts(tiny.CLASSES)
    quiet = draw_calm_videos(1, 300, deviation=0.05)[0]
    assert fast.detect(quiet, prompts).window is not None
    assert fast.detect(quiet, prompts).recomputed == 0
    assert fast.detect(np.concatenate([quiet, np.repeat(wild(), 5, axis=0)]), prompts).recomputed > 0
    batch = np.stack(
        [
            draw_calm_videos(1, tiny.LENGTH, deviation=0.05)[0],
            30 * draw_calm_videos(1, tiny.LENGTH, seed=1, deviation=2)[0],
        ]
    )
    _, ours = fast._network.run_windows(batch, prompts)
    (theirs,) = exact._network.run_windows(batch[1:], prompts)
    assert np.array_equal(ours.cas_logits, theirs.cas_logits)


@pytest.mark.filterwarnings("error")
def test_a_limit_beyond_float32_accepts_every_video(bundle: Path, tmp_path: Path) -> None:
    write_fast_bundle(bundle, tmp_path / "bundle", tiny.make_network(), limit=1e300)
    assert Localizer.open(tmp_path / "bundle", backend="ort-fast").detect(calm(), tiny.CLASSES).recomputed == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_deviation_that_is_no_number_counts_as_above_the_limit(value: float, bundle: Path, tmp_path: Path) -> None:
    model = onnx.load_from_string(fast_bytes(tiny.make_network(), 0))
    last = next(node for node in model.graph.node if layout.DEVIATION in node.output)
    last.output[0] = "measured"
    tensor = onnx.numpy_helper.from_array(np.array(value, np.float32), "broken")
    model.graph.initializer.append(tensor)
    model.graph.node.append(onnx.helper.make_node("Add", ["measured", "broken"], [layout.DEVIATION]))
    write_fast_bundle(bundle, tmp_path / "bundle", tiny.make_network(), limit=0.5, graph=model.SerializeToString())
    localizer = Localizer.open(tmp_path / "bundle", backend="ort-fast")
    assert localizer.detect(calm(), tiny.CLASSES).recomputed == 1


def test_a_deviation_of_another_shape_is_refused(bundle: Path, tmp_path: Path) -> None:
    model = onnx.load_from_string(fast_bytes(tiny.make_network(), 0))
    last = next(node for node in model.graph.node if layout.DEVIATION in node.output)
    last.output[0] = "measured"
    model.graph.node.append(onnx.helper.make_node("Concat", ["measured", "measured"], [layout.DEVIATION], axis=0))
    write_fast_bundle(bundle, tmp_path / "bundle", tiny.make_network(), limit=0.5, graph=model.SerializeToString())
    with pytest.raises(BundleError, match=r"gives float32 \(2,\), expected float32 \(1,\)"):
        Localizer.open(tmp_path / "bundle", backend="ort-fast").detect(calm(), tiny.CLASSES)


def test_the_default_is_the_approximation_where_its_map_was_measured(fast_bundle: Path) -> None:
    manifest = Bundle(fast_bundle).manifest
    assert default_backend(manifest).name != "ort-fast"
    measured = QuantizationRecord(
        file=layout.LOCALIZER_FAST,
        kind="static",
        target="vnni",
        weight_bits=8,
        integer_operators_expected=1,
        integer_operators_found=1,
        map_percent=70.0,
        fp32_map_percent=70.0,
    )
    proved = replace(manifest, quantization=(*manifest.quantization, measured))
    assert default_backend(proved) == FAST
    assert exact_backend(proved).name == "ort-fp32"
    assert default_backend(replace(proved, approximation=None)).name == "ort-fp32"


def test_without_an_exact_graph_or_a_limit_there_is_no_guard(bundle: Path, tmp_path: Path) -> None:
    held = write_fast_bundle(bundle, tmp_path / "bundle", tiny.make_network(), limit=0.5)
    exact = [b.file for b in LOCALIZER_BACKENDS.values() if b != FAST and b.file in held.manifest.files]
    manifest = replace(held.manifest, files={n: f for n, f in held.manifest.files.items() if n not in exact})
    for backend in (FAST, default_backend(manifest), LOCALIZER_BACKENDS["ort-int8"]):
        problem = backend_problem(backend, manifest)
        assert isinstance(problem, BackendError)
        assert "no exact graph" in str(problem)
    problem = backend_problem(FAST, replace(held.manifest, approximation=None))
    assert isinstance(problem, BundleError)
    assert "does not say how exact" in str(problem)


def test_a_report_names_the_videos(fast_bundle: Path) -> None:
    localizer = Localizer.open(fast_bundle, backend="ort-fast")
    paths = tuple(Path(f"{name}.npy") for name in ("calm", "wild"))
    outcomes = tuple(
        Outcome(path, localizer.detect(video, tiny.CLASSES), None)
        for path, video in zip(paths, (calm(), wild()), strict=True)
    )
    batch = Batch(paths=paths, outcomes=outcomes)
    assert batch.recomputed == 1
    report = json.loads(run_report_json(batch, resumed=0, run={}))
    assert report["counts"]["recomputed"] == 1
    assert [video.get("recomputed") for video in report["videos"]] == [None, 1]
