"""From a trained network to a verified bundle."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stale_export.bundle_writer import write_bundle
from stale_export.graphs import LocalizerGraph, localizer_design, text_encoder_design, write_graph
from stale_export.parity import compare_localizer, compare_text_encoder, draw_features, localizer_cases
from stale_model import TrainedStale
from stale_model.clip import text_encoder_spec
from stale_runtime.arrays import pack_arrays
from stale_runtime.decoders import DEFAULT_DECODER
from stale_runtime.errors import ExportError
from stale_runtime.localizer import BACKENDS, LONGEST, PROMPTS_NAME, SHORTEST
from stale_runtime.manifest import FORMAT_VERSION, Manifest, ParityRecord, Source
from stale_runtime.prompts import Prompts
from stale_runtime.self_test import SELFTEST_NAME
from stale_runtime.text_encoder import PROMPT_TEMPLATE, TEXT_ENCODER_NAME, TOKENIZER_NAME, Tokenizer

PACKAGES = ("stale-edge", "torch", "transformers", "onnx", "onnxscript", "onnxruntime", "numpy", "tokenizers")
_SELFTEST_PROMPTS = 8

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """A file that was written."""

    name: str
    size: int
    """Bytes."""
    deviation: float | None
    """Largest absolute deviation from the network; None for what is no graph."""


def export_bundle(trained: TrainedStale, prompts: Prompts, output: Path, *, say: Say) -> list[ExportedFile]:
    """Export a trained network, verify the graphs, and write the bundle; whole, or not at all.

    Args:
        trained: network, text tower and tokenizer.
        prompts: class names whose embeddings the bundle carries.
        output: the bundle's folder; a bundle that is there is replaced.
        say: told what is being done.

    Returns:
        The files of the bundle.

    Raises:
        ExportError: a graph cannot be exported, or differs from the network.
        PromptError: a class name is too long for the text tower.
        CheckpointError: the tokenizer does not fit.
        OSError: the bundle cannot be written.
    """
    network, tower = trained.network, trained.tower
    if not SHORTEST <= network.config.temporal_scale <= LONGEST:
        raise ExportError(
            f"trained at T={network.config.temporal_scale}, expected {SHORTEST} to {LONGEST} snippets; train it so"
        )
    spec = text_encoder_spec(trained.clip)
    texts = [PROMPT_TEMPLATE.replace("{}", name) for name in prompts.names]
    tokenizer = Tokenizer(trained.clip.tokenizer_json, spec)
    ids = torch.from_numpy(tokenizer(texts, prompts.places))

    say(f"embedding {len(texts)} prompts")
    embeddings = _embed(trained, ids)

    say("exporting the text encoder")
    text_design = text_encoder_design(tower, network.config.channels)
    text_model = write_graph(tower, text_design, spec.context_length)
    say("exporting the localizer")
    localizer_name = BACKENDS["ort-fp32"]
    design = localizer_design(network)
    localizer_model = write_graph(LocalizerGraph(network), design)

    say("comparing the graphs with the network")
    padded = torch.nn.functional.pad(ids, (0, spec.context_length - ids.shape[1]), value=spec.pad_token)
    batches = (ids[:64], ids[:1], padded[:2])
    parity = [
        *compare_text_encoder(text_model, TEXT_ENCODER_NAME, tower, batches),
        *compare_localizer(
            localizer_model,
            localizer_name,
            network,
            embeddings,
            localizer_cases(network.config.temporal_scale, len(texts)),
        ),
    ]
    contents = {
        localizer_name: localizer_model,
        TEXT_ENCODER_NAME: text_model,
        TOKENIZER_NAME: trained.clip.tokenizer_json,
        PROMPTS_NAME: pack_arrays({"texts": np.array(texts), "embeddings": embeddings.numpy()}),
        SELFTEST_NAME: pack_arrays(_selftest(trained, texts[:_SELFTEST_PROMPTS], embeddings[:_SELFTEST_PROMPTS])),
    }
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        versions={package: version(package) for package in PACKAGES},
        source=Source(format=trained.format, sha256=trained.sha256, size=trained.size),
        channels=network.config.channels,
        temporal_scale=network.config.temporal_scale,
        decoder=DEFAULT_DECODER,
        text_encoder=spec,
        graphs={localizer_name: design.spec, TEXT_ENCODER_NAME: text_design.spec},
        parity=tuple(parity),
        files={},
    )
    say(f"writing {output}")
    written = write_bundle(output, manifest, contents)
    return [
        ExportedFile(name=name, size=record.size, deviation=_largest_deviation(parity, name))
        for name, record in written.files.items()
    ]


def _embed(trained: TrainedStale, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([trained.tower(batch) for batch in ids.split(64)])  # (K, C)


def _selftest(trained: TrainedStale, texts: Sequence[str], embeddings: torch.Tensor) -> dict[str, NDArray[np.generic]]:
    """Inputs and outputs of the PyTorch network, for ``stale-run --self-test``."""
    network = trained.network
    features = draw_features(network, 1, max(network.config.temporal_scale, 16))
    with torch.no_grad():
        localization = network.localize(features, network.with_background(embeddings))
    return {
        "texts": np.array(texts),
        "features": features[0].numpy(),
        "embeddings": embeddings.numpy(),
        "cas_logits": localization.cas_logits[0].numpy(),
        "action_masks": localization.action_masks[0].numpy(),
    }


def _largest_deviation(parity: Sequence[ParityRecord], name: str) -> float | None:
    return max((record.deviation for record in parity if record.file == name), default=None)
