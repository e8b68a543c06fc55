from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_runtime.bundle import layout
from stale_runtime.bundle.arrays import pack_arrays, unpack_arrays
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.errors import BundleError, ChecksumError
from stale_runtime.inference.backends import LOCALIZER_BACKENDS, backend_problem
from stale_runtime.inference.bundle_check import LIMITS, Check, self_test
from tests.runtime.helpers import with_file


def with_recording(bundle: Path, copy: Path, **changes: NDArray[Any]) -> Bundle:
    """A bundle with another recording."""
    recorded = unpack_arrays((bundle / layout.SELF_TEST).read_bytes(), layout.SELF_TEST)
    return Bundle(with_file(bundle, copy, layout.SELF_TEST, pack_arrays({**recorded, **changes})))


def recording(bundle: Path, name: str) -> NDArray[Any]:
    return unpack_arrays((bundle / layout.SELF_TEST).read_bytes(), layout.SELF_TEST)[name]


def test_every_file_and_every_output_is_checked(bundle: Path) -> None:
    checks = list(self_test(Bundle(bundle)))
    assert all(check.passed for check in checks)
    files = {path.name for path in bundle.iterdir()} - {"manifest.json"}
    assert {check.what for check in checks if check.deviation is None} == files
    manifest = Bundle(bundle).manifest
    backends = [name for name, backend in LOCALIZER_BACKENDS.items() if backend_problem(backend, manifest) is None]
    assert {"ort-fp32", "ort-int8", "ort-int8-dynamic"} <= set(backends)
    outputs = {f"{backend}: {output}" for backend in backends for output in ("cas_logits", "action_masks", "kept_mask")}
    encoded = {f"text encoder: {output}" for output in ("embeddings", "queries")}
    assert {check.what for check in checks} - files == encoded | outputs


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_a_deviation_from_the_recording_fails(bundle: Path, tmp_path: Path, name: str) -> None:
    value = recording(bundle, name).copy()
    value.flat[3] += 3 * LIMITS[name]
    checks = list(self_test(with_recording(bundle, tmp_path / "copy", **{name: value})))
    failed = [check for check in checks if not check.passed]
    outputs = {check.what.split(": ")[-1] for check in failed}
    assert name in outputs
    assert outputs <= {name, "cas_logits"}  # which depend on embeddings and queries
    assert all(check.deviation is not None and check.limit == LIMITS[check.what.split(": ")[-1]] for check in failed)


def test_other_features_fail(bundle: Path, tmp_path: Path) -> None:
    changed = with_recording(bundle, tmp_path / "copy", features=recording(bundle, "features") + 1)
    assert not all(check.passed for check in self_test(changed))


def test_not_a_number_fails() -> None:
    assert not Check("x", float("nan"), 1.0).passed
    assert Check("x", 1.0, 1.0).passed
    assert not Check("x", 1.1, 1.0).passed
    assert Check("x", None, None).passed


def test_a_damaged_file_ends_it(bundle: Path, tmp_path: Path) -> None:
    copy = with_file(bundle, tmp_path / "copy", "prompts.npz", b"12345678")
    (copy / "prompts.npz").write_bytes(b"12345679")
    with pytest.raises(ChecksumError, match=r"prompts\.npz"):
        list(self_test(Bundle(copy)))


def test_a_recording_of_other_shapes_or_names_is_a_bundle_error(bundle: Path, tmp_path: Path) -> None:
    short = with_recording(bundle, tmp_path / "short", cas_logits=recording(bundle, "cas_logits")[:, 1:])
    with pytest.raises(BundleError, match="not a recording"):
        list(self_test(short))
    surplus = with_recording(bundle, tmp_path / "surplus", more=np.zeros(1))
    with pytest.raises(BundleError, match=r"selftest\.npz: not a recording"):
        list(self_test(surplus))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("names", np.array("one")),
        ("names", np.arange(3)),
        ("names", np.array([], dtype="<U4")),
        ("names", np.array(["polo"])),
        ("features", np.zeros((3, 5), dtype=np.float32)),
        ("embeddings", np.zeros((0, 16), dtype=np.float32)),
        ("queries", np.zeros((0, 32), dtype=np.float32)),
        ("queries", np.zeros((3, 16), dtype=np.float32)),
        ("queries", np.zeros((3, 32), dtype=np.int64)),
        ("action_masks", np.zeros((3, 3), dtype=np.float32)),
        ("action_masks", np.float32(3)),
        ("action_masks", np.zeros((3, 3), dtype=np.float16)),
        ("features", np.full((12, 16), 1e300)),
        ("features", np.zeros((12, 16), dtype=np.longdouble)),
    ],
)
def test_a_crafted_recording_is_refused(bundle: Path, tmp_path: Path, name: str, value: NDArray[Any]) -> None:
    crafted = with_recording(bundle, tmp_path / "copy", **{name: value})
    with pytest.raises(BundleError, match=r"^selftest\.npz: not a recording of this network's outputs"):
        list(self_test(crafted))
