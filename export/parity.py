"""Proof that an exported graph computes what the network computes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stale_export.localizer_graph import cross_queries
from stale_model import Stale
from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import ParityRecord
from stale_runtime.decoding.decoders import DECODERS
from stale_runtime.errors import ParityError
from stale_runtime.inference.onnx_session import open_session
from stale_runtime.inputs.features import CLIP_NORM

LIMITS = {"cas_logits": 2e-4, "action_masks": 1e-5, "embeddings": 1e-5, "queries": 1e-5}
"""Largest absolute deviation of each output; logits are 100 times a cosine."""
CLEAR_MARGIN = 2e-5
"""How far a drawn video's snippets keep from the masking threshold, where rounding would decide."""


class Case(NamedTuple):
    """Sizes to compare at."""

    batch: int
    length: int
    """T"""
    classes: int
    snippets: int | None = None
    """S, of a video that the graph is to resample; None for one given at T."""


def localizer_cases(temporal_scale: int, classes: int) -> tuple[Case, ...]:
    """Three lengths, class counts and batch sizes, the trained length among them, and a video that is resampled."""
    lengths = (
        temporal_scale,
        max(layout.SHORTEST, temporal_scale // 2 + 1),
        min(layout.LONGEST, 2 * temporal_scale + 37),
    )
    batches = (1, 3, 2)
    given = (
        Case(batch, max(layout.SHORTEST, length), count)
        for batch, length, count in zip(batches, lengths, (classes, 1, min(7, classes)), strict=True)
    )
    return (*given, Case(2, max(layout.SHORTEST, temporal_scale), min(7, classes), max(2, temporal_scale // 3)))


def compare_localizer(
    model: bytes, name: str, network: Stale, embeddings: Tensor, cases: Sequence[Case]
) -> Iterator[ParityRecord]:
    """Run a localizer graph and the network on the same inputs.

    Args:
        model: the graph.
        name: its file name.
        network: what it was exported from.
        embeddings: (K, C) prompt embeddings; a case takes the first of them.
        cases: sizes.

    Yields:
        A record an output and case.

    Raises:
        ParityError: a deviation is above its limit.
    """
    session = open_session(model, name=name, threads=1)
    for case in cases:
        features = draw_features(network, case.batch, case.length, case.snippets)
        prompts = embeddings[: case.classes]
        with torch.no_grad():
            expected = network.localize(stretched(features, case.length), network.with_background(prompts))
        queries = cross_queries(network, prompts)
        inputs = {
            "features": features.numpy(),
            "length": np.array(case.length),
            "prompts": prompts.numpy(),
            "queries": queries.numpy(),
        }
        got = session.run(expected._fields, inputs)
        for output, theirs, ours in zip(expected._fields, got, expected, strict=True):
            yield _record(name, output, case, theirs, ours.numpy())
        _compare_detections(name, case, got, [tensor.numpy() for tensor in expected])


def compare_text_encoder(
    model: bytes, name: str, suffixes: Sequence[Sequence[int]], embeddings: Tensor, queries: Tensor
) -> Iterator[ParityRecord]:
    """Run a text encoder graph on the prompts of one length after the other.

    Args:
        model: the graph.
        name: its file name.
        suffixes: token ids of K prompts, without the prefix that the graph has inside.
        embeddings: (K, C) of the same prompts, from the plain tower.
        queries: (K, H*C), what the cross-adaptation makes of them.

    Yields:
        Records of each output and length.

    Raises:
        ParityError: a deviation is above its limit.
    """
    session = open_session(model, name=name, threads=1)
    for length in sorted({len(suffix) for suffix in suffixes}):
        chosen = [k for k, suffix in enumerate(suffixes) if len(suffix) == length]
        token_ids = np.array([suffixes[k] for k in chosen], dtype=np.int64)
        outputs = {"embeddings": embeddings[chosen], "queries": queries[chosen]}
        got = session.run(list(outputs), {"token_ids": token_ids})
        for (output, ours), theirs in zip(outputs.items(), got, strict=True):
            yield _record(name, output, Case(0, length, len(chosen)), theirs, ours.numpy())


def draw_features(network: Stale, B: int, T: int, S: int | None = None, *, norm: float = CLIP_NORM) -> Tensor:
    """Features for which no snippet is near the masking threshold at T.

    Args:
        network: whose threshold.
        B: videos.
        T: snippets at which the network sees them.
        S: snippets that they have.
        norm: length of a snippet's features.

    Returns:
        (B, S, C), S = T unless given.

    Raises:
        ParityError: none could be drawn.
    """
    S, C = S or T, network.config.channels
    videos: list[Tensor] = []
    for seed in range(64 * B):
        noise = torch.randn(S, C, generator=torch.Generator().manual_seed(seed))
        drift = torch.randn(1, C, generator=torch.Generator().manual_seed(seed + 10_000))
        video = nn.functional.normalize(noise + drift, dim=1) * norm
        if _threshold_margin(network, stretched(video[None], T)[0]) > CLEAR_MARGIN:
            videos.append(video)
        if len(videos) == B:
            return torch.stack(videos)
    raise ParityError(f"T={T}: every drawn video has a snippet at the masking threshold; is the network trained?")


def stretched(features: Tensor, T: int) -> Tensor:
    """Features resampled as the original does it: (B, S, C) -> (B, T, C); as they are at S = T."""
    if features.shape[1] == T:
        return features
    return nn.functional.interpolate(features.transpose(1, 2), T, mode="linear").transpose(1, 2)


def _threshold_margin(network: Stale, video: Tensor) -> float:
    with torch.no_grad():
        masks = network.mask_localizer(network.snippet_embedding(video[None], video[None]))[0]
    strength = masks.double().mean(dim=1)
    return float((strength - strength.mean()).abs().min())


def _record(
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


def _compare_detections(
    name: str, case: Case, got: Sequence[NDArray[np.float32]], expected: Sequence[NDArray[np.float32]]
) -> None:
    """Make sure that the surest detection of each decoder is the same."""
    for decoder, decode in DECODERS.items():
        for b in range(case.batch):
            ours, theirs = (decode(outputs[0][b], outputs[1][b]) for outputs in (got, expected))
            same = len(ours.scores) == len(theirs.scores) == 0 or (
                len(ours.scores) > 0
                and len(theirs.scores) > 0
                and ours.classes[0] == theirs.classes[0]
                and np.allclose(ours.scores[0], theirs.scores[0], rtol=1e-2)
            )
            if not same:
                raise ParityError(
                    f"{name}: with decoder {decoder} the best detection differs from the network's at T={case.length}, "
                    f"K={case.classes}; nothing was written"
                )
