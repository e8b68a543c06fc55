"""A tiny network, videos and bundle for the tests of the approximate localizer."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from stale_export.bundle_writer import write_bundle
from stale_export.expansion import Directions
from stale_export.fast_localizer import GUARD_ROWS, fast_model, fast_spec
from stale_export.folding import FoldedAttention
from stale_export.graph_builder import serialize
from stale_export.localizer_graph import cross_queries, localizer_model
from stale_model import Stale
from stale_runtime.bundle import layout
from stale_runtime.bundle.approximation_record import ApproximationRecord
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.inference.forward_pass import EncodedPrompts, GraphCall, MaskRows, Outputs, make_inputs, read_outputs
from stale_runtime.inference.video_landmarks import LANDMARKS
from tests import tiny
from tests.export.graphs import NODES, draw_prompts

NORM = 10.0
Array = NDArray[np.float32]


def draw_calm_videos(count: int, snippets: int, *, seed: int = 0, deviation: float = 0.3) -> list[Array]:
    """Features (S, C) of videos whose snippets resemble each other, as those of one video do."""
    dice = np.random.default_rng(seed)
    videos = dice.standard_normal((count, 1, tiny.CHANNELS)) + deviation * dice.standard_normal(
        (count, snippets, tiny.CHANNELS)
    )
    return [(NORM * video / np.linalg.norm(video, axis=1, keepdims=True)).astype(np.float32) for video in videos]


def encode(network: Stale, K: int = 3) -> EncodedPrompts:
    """Encoded prompts."""
    prompts = draw_prompts(K, tiny.CHANNELS)
    return EncodedPrompts(tuple(map(str, range(K))), prompts.numpy(), cross_queries(network, prompts).numpy())


def load(model: bytes) -> onnxruntime.InferenceSession:
    """A session of a graph."""
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def exact_session(network: Stale) -> onnxruntime.InferenceSession:
    """The float graph of a network."""
    return load(serialize(localizer_model(network)))


def fast_bytes(network: Stale, directions: int, videos: Sequence[Array] | None = None) -> bytes:
    """The approximate graph of a network in float."""
    directions_of = Directions(FoldedAttention.of(network.snippet_embedding), videos or draw_calm_videos(8, 40))
    return serialize(fast_model(network, directions_of.expansion(directions)))


def run(
    session: onnxruntime.InferenceSession, batch: Array, prompts: EncodedPrompts, length: int | None = None
) -> tuple[list[Outputs], Array]:
    """Outputs of a graph for videos (B, T, C), and the deviation of each, zeros if it is exact."""
    names = [value.name for value in session.get_outputs()]
    call = GraphCall(batch, length or batch.shape[1], prompts)
    inputs = make_inputs([value.name for value in session.get_inputs()], call, MaskRows(tiny.LENGTH, NODES))
    found = session.run(names, inputs)
    outputs = dict(zip(names, found, strict=True))
    return read_outputs(outputs), outputs.get(layout.DEVIATION, np.zeros(len(batch), np.float32))


def sharpened(factor: float, *, seed: int = 0) -> Stale:
    """A network whose attention among snippets has logits so many times as large."""
    network = tiny.make_network(seed)
    with torch.no_grad():
        network.snippet_embedding.query.weight.mul_(factor)
    return network


def write_fast_bundle(
    bundle: Path, output: Path, network: Stale, *, limit: float, graph: bytes | None = None
) -> Bundle:
    """A bundle with an approximate graph of its network besides its other files."""
    files = {path.name: path.read_bytes() for path in bundle.iterdir() if path.name != layout.MANIFEST}
    files[layout.LOCALIZER_FAST] = graph or fast_bytes(network, 0)
    manifest = Bundle(bundle).manifest
    record = ApproximationRecord(
        file=layout.LOCALIZER_FAST,
        directions=0,
        landmarks=LANDMARKS,
        guard_rows=GUARD_ROWS,
        guard_limit=limit,
        lengths=(),
    )
    graphs = {**manifest.graphs, layout.LOCALIZER_FAST: fast_spec(network)}
    write_bundle(output, replace(manifest, graphs=graphs, approximation=record), files)
    return Bundle(output)
