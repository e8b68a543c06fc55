"""Every backend that can run here against the PyTorch network, also at lengths of which bfloat16 has not every number.

Coarse arithmetic moves every output a little, and may decide otherwise for a snippet at the masking threshold. Wrong
positions and orders move whole rows: when they were floats, rounded to bfloat16, masks were off by 0.1 to 0.24 from
T=333 on, and the activations of 1 to 25 % of the snippets were another snippet's.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from stale_export import Int8Options, export_bundle
from stale_export.localizer_graph import cross_queries
from stale_export.parity import draw_features
from stale_model import Stale, read_original_checkpoint
from stale_runtime import Bundle, EncodedPrompts, Localizer, Prompts, Settings, read_features
from stale_runtime.decoding.action_masks import all_rows
from stale_runtime.inference.backends import LOCALIZER_BACKENDS, backend_problem
from stale_runtime.inputs.features import resample
from tests import tiny
from tests.conftest import BuildOnce
from tests.export.graphs import draw_prompts, run_network
from tests.export.int8 import write_videos
from tests.export.test_localizer_graph import make_network

LENGTHS = (100, 333, 400, 1000)
PERTURBATIONS = {"fp32": 0.01, "bf16": 0.3, "int8": 1.0}
"""What is added to the first row of a weight by the tests that must fail. The weights are about 0.3."""
PERTURBED = ("mask_localizer.hidden.weight", "snippet_embedding.output.weight", "cross_adaptation.output.weight")


class Limits(NamedTuple):
    """How far a backend may be off."""

    masks: float
    """Largest deviation of a mask."""
    median: float
    """Median deviation of a class activation."""
    largest: float
    """Largest deviation of a class activation."""
    otherwise: float
    """Share of the snippets that may have been decided otherwise, whose activations may deviate by any amount."""


FLOAT = Limits(masks=1e-5, median=2e-5, largest=2e-4, otherwise=0)
LIMITS = {
    "fp32": FLOAT,
    "bf16": Limits(masks=0.01, median=0.2, largest=1, otherwise=0.01),
    "int8": Limits(masks=0.15, median=0.4, largest=3, otherwise=0.05),
}
"""For a random network, by precision. Measured: 0.0034, 0.11, 0.43 in bfloat16, and 0.11, 0.27, 1.42 in int8."""
REFERENCE_LIMITS = {
    "fp32": FLOAT,
    "bf16": Limits(masks=0.008, median=0.03, largest=0.2, otherwise=0.01),
    "int8": Limits(masks=0.015, median=0.06, largest=0.5, otherwise=0.02),
}
"""For the reference checkpoint. Measured: 0.0046, 0.018, 0.11 in bfloat16, and 0.009, 0.031, 0.21 in int8."""


COMPARED = [name for name in LOCALIZER_BACKENDS if name not in ("ort-fast", "openvino-int8")]
"""Not the approximation, which has a gate of its own, and not what runs no bundle of this format."""


def assert_same(
    folder: Path,
    network: Stale,
    backend: str,
    T: int,
    videos: Sequence[np.ndarray],
    embeddings: torch.Tensor,
    limits: Limits,
) -> None:
    """A backend computes what the plain network computes."""
    names = tuple(map(str, range(len(embeddings))))
    prompts = EncodedPrompts(names, embeddings.numpy(), cross_queries(network, embeddings).numpy())
    localizer = Localizer(Bundle(folder), Settings(backend=backend, length=T, cache=False))
    for features in videos:
        logits, masks, _ = localizer.outputs(features, prompts)
        expected = run_network(network, torch.from_numpy(resample(features, T))[None], embeddings)
        off = np.abs(logits - expected[0][0])  # (K+1, T)
        assert np.abs(all_rows(masks) - expected[1][0]).max() <= limits.masks
        assert np.median(off) <= limits.median
        assert np.quantile(off.max(axis=0), 1 - limits.otherwise, method="lower") <= limits.largest


def skip_unless_usable(backend: str, folder: Path) -> None:
    problem = backend_problem(LOCALIZER_BACKENDS[backend], Bundle(folder).manifest)
    if problem is not None:
        pytest.skip(str(problem))


@pytest.fixture(scope="module")
def network() -> Stale:
    """A random network, trained at 100 snippets."""
    return make_network()


@pytest.fixture(scope="module")
def calibrated(build_once: BuildOnce, network: Stale, clip_folder: Path) -> Path:
    """A bundle of it with float and static int8 graphs."""

    def make(folder: Path) -> None:
        state = tiny.upstream_state(network, tiny.make_tower(clip_folder))
        trained = read_original_checkpoint(tiny.save_checkpoint(folder / "best.pth", state), str(clip_folder))
        videos = {f"video{n}": draw_features(network, 1, 100 + n)[0].numpy() for n in range(8)}
        options = Int8Options(calibration=write_videos(folder / "training", videos))
        export_bundle(trained, Prompts.of(tiny.CLASSES), folder / "bundle", int8=options, say=lambda _: None)

    return build_once("calibrated-export", make) / "bundle"


@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize("backend", COMPARED)
def test_a_random_network(calibrated: Path, network: Stale, backend: str, T: int) -> None:
    skip_unless_usable(backend, calibrated)
    videos = [draw_features(network, 1, T, S)[0].numpy() for S in (60, T)]
    limits = LIMITS[LOCALIZER_BACKENDS[backend].precision]
    assert_same(calibrated, network, backend, T, videos, draw_prompts(5, tiny.CHANNELS), limits)


def perturbed(network: Stale, name: str, amount: float) -> Stale:
    """A copy with an amount added to the first row of one weight."""
    changed = copy.deepcopy(network)
    with torch.no_grad():
        changed.get_parameter(name)[0] += amount
    return changed


@pytest.mark.parametrize("name", PERTURBED)
@pytest.mark.parametrize("backend", COMPARED)
def test_a_perturbed_weight_is_noticed(calibrated: Path, network: Stale, backend: str, name: str) -> None:
    skip_unless_usable(backend, calibrated)
    precision = LOCALIZER_BACKENDS[backend].precision
    other = perturbed(network, name, PERTURBATIONS[precision])
    videos = [draw_features(network, 1, 100, S)[0].numpy() for S in (60, 100)]
    with pytest.raises(AssertionError):
        assert_same(calibrated, other, backend, 100, videos, draw_prompts(5, tiny.CHANNELS), LIMITS[precision])


@pytest.fixture(scope="module")
def reference_network(reference: Path) -> Stale:
    return read_original_checkpoint(reference / "best.pth", str(reference / "clip")).network


@pytest.mark.reference
@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize("backend", COMPARED)
def test_the_reference_checkpoint(
    reference: Path, reference_bundle: Path, reference_network: Stale, backend: str, T: int
) -> None:
    skip_unless_usable(backend, reference_bundle)
    embeddings = torch.from_numpy(np.load(reference / "golden" / "text_all200.npz")["prompt_embeddings"][:50])
    videos = [read_features(path, 512) for path in sorted((reference / "features").glob("*.npy"))[:32:16]]
    limits = REFERENCE_LIMITS[LOCALIZER_BACKENDS[backend].precision]
    assert_same(reference_bundle, reference_network, backend, T, videos, embeddings, limits)
