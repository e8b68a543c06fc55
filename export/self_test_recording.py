"""The recording that ``stale-run --self-test`` replays on the target machine."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from stale_export.embedded_prompts import EmbeddedPrompts
from stale_export.graph_runner import Features, localize_video, run_on_video
from stale_export.localizer_graph import cross_queries
from stale_export.parity import draw_features
from stale_export.quantization import QuantizedGraph
from stale_model import Stale
from stale_runtime.bundle import layout
from stale_runtime.bundle.approximation_record import ApproximationRecord
from stale_runtime.bundle.arrays import pack_arrays
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.decoding.action_masks import all_rows
from stale_runtime.inference.backends import LOCALIZER_BACKENDS
from stale_runtime.inference.bundle_check import replay_name
from stale_runtime.inference.forward_pass import EncodedPrompts

_MOST_PROMPTS = 8
"""Prompts in the recording."""
_NOISE = (1, 0.5, 0.25, 0.1, 0.05)
"""How much snippets of the recorded video differ, see ``draw_features``: the first that the guard accepts."""
_CLEARLY = 0.5
"""Share of the guard's limit that it may reach, so that another machine accepts it, too."""
NO_VISION: Mapping[str, NDArray[np.generic]] = {}
"""Of a bundle without a vision tower."""


def record_self_test(
    network: Stale,
    prompts: EmbeddedPrompts,
    int8_graphs: Sequence[QuantizedGraph],
    *,
    norm: float,
    approximation: ApproximationRecord | None = None,
    vision: Mapping[str, NDArray[np.generic]] = NO_VISION,
) -> bytes:
    """Record one made-up video: inputs, the network's outputs, and the outputs of each int8 graph on this machine.

    Args:
        network: in evaluation mode.
        prompts: the first of them are recorded.
        int8_graphs: the int8 graphs of the ONNX Runtime backends.
        norm: Euclidean length of a drawn snippet's features.
        approximation: the record of the approximate graph, if it is among these; its guard accepts the video.
        vision: what to record of the vision tower.

    Returns:
        The content of ``selftest.npz``.
    """
    names, embeddings = prompts.names[:_MOST_PROMPTS], prompts.embeddings[:_MOST_PROMPTS]
    queries = cross_queries(network, embeddings).numpy()  # (K, H*C)
    encoded = EncodedPrompts(names, embeddings.numpy(), queries)
    video = _draw_video(network, int8_graphs, encoded, norm, approximation)  # (T, C)
    with torch.no_grad():
        localization = network.localize(torch.from_numpy(video[None]), network.with_background(embeddings))
    arrays: dict[str, NDArray[np.generic]] = {
        "names": np.array(names),
        "features": video,
        layout.EMBEDDINGS: encoded.embeddings,
        layout.QUERIES: encoded.queries,
        layout.CAS_LOGITS: localization.cas_logits[0].numpy(),
        layout.ACTION_MASKS: localization.action_masks[0].numpy(),
    }
    backends = {b.file: b.name for b in LOCALIZER_BACKENDS.values() if b.engine == "onnxruntime"}
    for graph in int8_graphs:
        session = open_session(graph.model, name=graph.record.file, threads=1)
        cas_logits, masks = localize_video(session, video, encoded)
        for output, values in zip(layout.FULL_MASK_OUTPUTS, (cas_logits, all_rows(masks)), strict=True):
            arrays[replay_name(backends[graph.record.file], output)] = values
    return pack_arrays({**arrays, **vision})


def _draw_video(
    network: Stale,
    int8_graphs: Sequence[QuantizedGraph],
    prompts: EncodedPrompts,
    norm: float,
    approximation: ApproximationRecord | None,
) -> Features:
    """Features (T, C) whose snippets differ as much as possible, but not too much for the approximate graph's guard."""
    fast = [graph.model for graph in int8_graphs if approximation and graph.record.file == approximation.file]
    sessions = [open_session(model, name="fast", threads=1) for model in fast]

    def is_accepted(video: Features) -> bool:
        assert approximation is not None
        deviations = [run_on_video(session, video, prompts, [layout.DEVIATION])[0] for session in sessions]
        return all(deviation <= _CLEARLY * approximation.guard_limit for deviation in deviations)

    for noise in _NOISE:
        video: Features = draw_features(network, 1, network.config.temporal_scale, norm=norm, noise=noise)[0].numpy()
        if not sessions or is_accepted(video):
            break
    return video
