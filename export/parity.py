"""Checks that an exported graph computes what the network computes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stale_export.embedded_prompts import EmbeddedPrompts
from stale_export.localizer_graph import cross_queries
from stale_model import Stale
from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import ParityRecord
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.decoding.action_masks import FullMasks, all_rows
from stale_runtime.decoding.decoders import DECODERS
from stale_runtime.decoding.mask_interpolation import most_exact_rows
from stale_runtime.decoding.proposals import Ranked
from stale_runtime.errors import ParityError
from stale_runtime.inference.forward_pass import EncodedPrompts, GraphCall, Outputs, make_inputs, read_outputs
from stale_runtime.inputs.features import CLIP_NORM

LIMITS = {
    layout.CAS_LOGITS: 2e-4,
    layout.KEPT: 0.0,
    layout.KEPT_MASK: 1e-5,
    layout.ACTION_MASKS: 1e-5,
    layout.EMBEDDINGS: 1e-5,
    layout.QUERIES: 1e-5,
}
"""Largest accepted absolute deviation of each output; the logits are 100 times a cosine."""
CLEAR_MARGIN = 2e-5
"""Least distance of every snippet of a drawn video from the masking threshold, so that rounding does not decide."""


class Case(NamedTuple):
    """Sizes of the inputs that a graph is compared on."""

    batch: int
    """B"""
    length: int
    """T"""
    classes: int
    """K"""
    snippets: int | None = None
    """S < T for a video that the graph has to resample; None for a video that has T snippets."""


def localizer_cases(temporal_scale: int, classes: int, mask_nodes: int | None) -> tuple[Case, ...]:
    """Three lengths, class counts and batch sizes, and one video to resample.

    Among the lengths are the trained one, and one at which only some rows of the masks are computed, if there is any.
    """
    all_rows_to = temporal_scale if mask_nodes is None else most_exact_rows(temporal_scale, mask_nodes)
    lengths = (
        temporal_scale,
        max(layout.SHORTEST, temporal_scale // 2 + 1),
        min(layout.LONGEST, max(2 * temporal_scale, all_rows_to) + 37),
    )
    batches = (1, 3, 2)
    given = (
        Case(batch, max(layout.SHORTEST, length), count)
        for batch, length, count in zip(batches, lengths, (classes, 1, min(7, classes)), strict=True)
    )
    return (*given, Case(2, max(layout.SHORTEST, temporal_scale), min(7, classes), max(2, temporal_scale // 3)))


def compare_localizer(
    model: bytes, name: str, network: Stale, embeddings: Tensor, cases: Sequence[Case], mask_nodes: int | None
) -> Iterator[ParityRecord]:
    """Run a localizer graph and the network on the same inputs.

    Args:
        model: the graph.
        name: file name of the graph, for records and messages.
        network: the network that the graph was exported from.
        embeddings: (K, C) prompt embeddings; each case uses the first of them.
        cases: sizes to compare at.
        mask_nodes: as in ``interpolate_masks``.

    Yields:
        A record for each case and output.

    Raises:
        ParityError: a deviation is above its limit, or the best detection differs.
    """
    session = open_session(model, name=name, threads=1)
    for case in cases:
        features = draw_features(network, case.batch, case.length, case.snippets)
        prompts = embeddings[: case.classes]
        with torch.no_grad():
            localization = network.localize(
                resample_like_original(features, case.length), network.with_background(prompts)
            )
        logits, full = localization.cas_logits.numpy(), localization.action_masks.numpy()
        expected = [Outputs(*video) for video in zip(logits, map(FullMasks, full), strict=True)]
        queries = cross_queries(network, prompts)
        names = tuple(f"class {k}" for k in range(len(prompts)))
        encoded = EncodedPrompts(names, prompts.numpy(), queries.numpy())
        call = GraphCall(features.numpy(), case.length, encoded, network.config.temporal_scale, mask_nodes)
        found = session.run(layout.LOCALIZER_OUTPUTS, make_inputs(layout.LOCALIZER_INPUTS, call))
        got = read_outputs(dict(zip(layout.LOCALIZER_OUTPUTS, found, strict=True)))
        for (output, ours), (_, theirs) in zip(_compared(got), _compared(expected), strict=True):
            yield _compare_output(name, output, case, ours, theirs)
        _compare_detections(name, case, got, expected)


def _compared(outputs: Sequence[Outputs]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """What is compared of the videos of a batch, with its name in records."""
    yield layout.CAS_LOGITS, np.stack([video.cas_logits for video in outputs])  # (B, K+1, T)
    yield layout.KEPT, np.stack([video.masks.kept for video in outputs]).astype(np.float32)  # (B, T)
    yield layout.KEPT_MASK, np.stack([video.masks.kept_mask for video in outputs])  # (B, T)
    yield layout.ACTION_MASKS, np.stack([all_rows(video.masks) for video in outputs])  # (B, T, T)


def compare_text_encoder(model: bytes, name: str, prompts: EmbeddedPrompts) -> Iterator[ParityRecord]:
    """Run a text encoder graph on prompts that the plain tower has embedded, grouped by their length in tokens.

    Args:
        model: the graph.
        name: file name of the graph, for records and messages.
        prompts: what the plain tower computes from each prompt.

    Yields:
        A record for each length and output.

    Raises:
        ParityError: a deviation is above its limit.
    """
    session = open_session(model, name=name, threads=1)
    (token_ids,) = layout.TEXT_ENCODER_INPUTS
    for length in sorted({len(suffix) for suffix in prompts.suffixes}):
        chosen = [k for k, suffix in enumerate(prompts.suffixes) if len(suffix) == length]
        rows = np.array([prompts.suffixes[k] for k in chosen], dtype=np.int64)  # (K', L)
        got = session.run(layout.TEXT_ENCODER_OUTPUTS, {token_ids: rows})
        expected = prompts.embeddings[chosen].numpy(), prompts.queries[chosen].numpy()
        for output, theirs, ours in zip(layout.TEXT_ENCODER_OUTPUTS, got, expected, strict=True):
            yield _compare_output(name, output, Case(0, length, len(chosen)), theirs, ours)


def draw_features(
    network: Stale, B: int, T: int, S: int | None = None, *, norm: float = CLIP_NORM, noise: float = 1
) -> Tensor:
    """Draw features that have no snippet near the masking threshold at T, where rounding would decide.

    Args:
        network: computes the masks.
        B: number of videos.
        T: number of snippets that the network sees.
        S: number of snippets of the videos themselves; None for T.
        norm: Euclidean length of a snippet's features.
        noise: by how much snippets of a video differ, as a share of what they have in common.

    Returns:
        (B, S, C); equal arguments give equal features.

    Raises:
        ParityError: no such video could be drawn.
    """
    S, C = S or T, network.config.channels
    videos: list[Tensor] = []
    for seed in range(64 * B):
        difference = noise * torch.randn(S, C, generator=torch.Generator().manual_seed(seed))
        drift = torch.randn(1, C, generator=torch.Generator().manual_seed(seed + 10_000))
        video = nn.functional.normalize(difference + drift, dim=1) * norm  # (S, C)
        if _threshold_margin(network, resample_like_original(video[None], T)[0]) > CLEAR_MARGIN:
            videos.append(video)
        if len(videos) == B:
            return torch.stack(videos)  # (B, S, C)
    raise ParityError(f"T={T}: every drawn video has a snippet at the masking threshold; is the network trained?")


def resample_like_original(features: Tensor, T: int) -> Tensor:
    """Resample features as the original code does: (B, S, C) -> (B, T, C); unchanged if S = T."""
    if features.shape[1] == T:
        return features
    channels_first = features.transpose(1, 2)  # (B, C, S)
    return nn.functional.interpolate(channels_first, T, mode="linear").transpose(1, 2)  # (B, T, C)


def _threshold_margin(network: Stale, video: Tensor) -> float:
    """Distance of the nearest snippet of a video (T, C) from the masking threshold."""
    with torch.no_grad():
        masks = network.mask_localizer(network.snippet_embedding(video[None], video[None]))[0]  # (T, T)
    strength = masks.double().mean(dim=1)  # (T,)
    return float((strength - strength.mean()).abs().min())


def _compare_output(
    name: str, output: str, case: Case, got: NDArray[np.float32], expected: NDArray[np.float32]
) -> ParityRecord:
    deviation = float(np.abs(got - expected).max()) if got.shape == expected.shape else float("inf")
    limit = LIMITS[output]
    if not deviation <= limit:
        raise ParityError(
            f"{name}: {output} deviates from the network by {deviation:.2g} at B={case.batch}, T={case.length}, "
            f"K={case.classes}, expected at most {limit:.0e}; nothing was written"
        )
    return ParityRecord(
        file=name,
        output=output,
        batch=case.batch,
        length=case.length,
        classes=case.classes,
        deviation=deviation,
        limit=limit,
    )


def _compare_detections(name: str, case: Case, got: Sequence[Outputs], expected: Sequence[Outputs]) -> None:
    """Make sure that the best detection of each decoder is the same for every video of the batch."""
    for decoder, decode in DECODERS.items():
        for ours, theirs in zip(got, expected, strict=True):
            if not _have_same_best(decode(*ours), decode(*theirs)):
                raise ParityError(
                    f"{name}: with decoder {decoder} the best detection differs from the network's at T={case.length}, "
                    f"K={case.classes}; nothing was written"
                )


def _have_same_best(a: Ranked, b: Ranked) -> bool:
    if not len(a.scores) or not len(b.scores):
        return len(a.scores) == len(b.scores)
    return bool(a.classes[0] == b.classes[0] and np.allclose(a.scores[0], b.scores[0], rtol=1e-2))
