import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from stale_export import export_bundle
from stale_export.graph_builder import OPSET, serialize
from stale_export.localizer_graph import cross_queries
from stale_export.text_graph import DeployedTextEncoder, text_encoder_model, text_graph_spec
from stale_model import TextTower, TrainedStale, read_original_checkpoint
from stale_runtime import Prompts
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.manifest import TextEncoderSpec
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.errors import ExportError, PromptError
from stale_runtime.inference.text_encoder import PromptVectors, TextEncoder, Tokenizer
from tests import tiny
from tests.export.graphs import assert_whole_and_anonymous, declared, interface

C, H = tiny.CHANNELS, tiny.CONFIG.heads
LIMIT = 1e-5
PREFIX = 15
"""Tokens of the start token and "a video of action", whose tokens are letters."""
ROOM = tiny.CONTEXT - PREFIX - 1
NAMES = (
    "polo",
    "x",
    "long jump",
    "throwing darts at the pub",
    "archery",
    "judo",
    "<|endoftext|>",
    "long <|endoftext|> jump",
    "jump<|endoftext|>",
    "<|startoftext|> polo",
    "POLO club",
    "ping-pong, 21: 19",
    "x" * ROOM,
    "y",
)


PARTS = ("layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2", *(f"self_attn.{p}_proj" for p in ("q", "k", "v", "out")))


@dataclass(frozen=True)
class Deep:
    """A tower of several layers, with no weight that starts at zero or one, and what was exported from it."""

    trained: TrainedStale
    bundle: Bundle

    @property
    def spec(self) -> TextEncoderSpec:
        return self.bundle.manifest.text_encoder

    @property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer(self.trained.clip.tokenizer_json, self.spec)

    def expected(self, names: Sequence[str], tower: TextTower | None = None) -> PromptVectors:
        """What the plain tower, which encodes all of each prompt, and the plain network make of names."""
        ids = torch.from_numpy(self.tokenizer(self.spec.fill(names)))
        with torch.no_grad():
            embeddings = (tower or self.trained.tower)(ids)
        return PromptVectors(embeddings.numpy(), cross_queries(self.trained.network, embeddings).numpy())


def make_deep(folder: Path, end: int | None = None) -> TrainedStale:
    """A checkpoint of three layers; end: the end token as its configuration has it."""
    clip = tiny.write_clip_folder(folder / "clip")
    content = json.loads((clip / "config.json").read_text())
    content["text_config"]["num_hidden_layers"] = 3
    if end is not None:
        content["text_config"]["eos_token_id"] = end
    (clip / "config.json").write_text(json.dumps(content))
    network, tower = tiny.make_network(), tiny.make_tower(clip)
    tiny.randomize(network)
    tiny.randomize(tower)
    with torch.no_grad():
        for name, weight in tower.named_parameters():  # so that attention depends on what it reads
            if "layer_norm" in name and name.endswith("weight"):
                weight.add_(1)
    state = tiny.upstream_state(network, tower)
    return read_original_checkpoint(tiny.save_checkpoint(folder / "best.pth", state), str(clip))


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Deep:
    folder = tmp_path_factory.mktemp("deep")
    trained = make_deep(folder)
    export_bundle(trained, Prompts.of(tiny.CLASSES), folder / "bundle", say=lambda _: None)
    return Deep(trained, Bundle(folder / "bundle"))


def assert_same(got: PromptVectors, expected: PromptVectors) -> None:
    assert got.embeddings.shape == expected.embeddings.shape
    assert got.queries.shape == expected.queries.shape
    np.testing.assert_allclose(got.embeddings, expected.embeddings, rtol=0, atol=LIMIT)
    np.testing.assert_allclose(got.queries, expected.queries, rtol=0, atol=LIMIT)


def test_the_prefix_is_what_every_prompt_begins_with(deep: Deep) -> None:
    assert len(deep.spec.prefix) == PREFIX
    for row in deep.tokenizer.rows(deep.spec.fill(NAMES)):
        assert tuple(row[:PREFIX]) == deep.spec.prefix


def test_names_of_every_length_are_encoded_as_the_plain_tower_does(deep: Deep) -> None:
    names = [("polo" * tiny.CONTEXT)[:length] for length in range(1, ROOM + 1)]
    expected = deep.expected(names)
    assert len(np.unique(expected.embeddings.round(4), axis=0)) == len(names)
    assert_same(TextEncoder(deep.bundle).encode(names), expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_encoded_as_the_plain_tower_does(deep: Deep, name: str) -> None:
    assert_same(TextEncoder(deep.bundle).encode([name]), deep.expected([name]))


def test_an_end_token_inside_a_name_ends_it(deep: Deep) -> None:
    encoded = TextEncoder(deep.bundle).encode(["long <|endoftext|> jump", "long <|endoftext|>", "long", "long jump"])
    assert np.abs(encoded.embeddings[:2] - encoded.embeddings[2]).max() <= LIMIT
    assert np.abs(encoded.embeddings[3] - encoded.embeddings[2]).max() > 0.01


def test_many_names_of_mixed_lengths_stay_in_order(deep: Deep) -> None:
    generator = np.random.default_rng(0)
    names = ["".join(generator.choice(list("abcdefghij klm"), size=n % 23 + 1)).strip() + "z" for n in range(700)]
    names += list(NAMES)
    assert_same(TextEncoder(deep.bundle).encode(names), deep.expected(names))


@pytest.mark.parametrize(
    "name",
    ["token_embedding.weight", "position_embedding.weight", "final_layer_norm.bias", "text_projection.weight"]
    + [
        f"layers.{layer}.{part}.{kind}"
        for layer in range(3)
        for part in PARTS
        for kind in ("weight", "bias")
        if (part, kind) != ("self_attn.k_proj", "bias")  # which no softmax sees
    ],
)
def test_one_changed_weight_makes_another_encoder(deep: Deep, tmp_path: Path, name: str) -> None:
    tower = make_deep(tmp_path).tower
    assert_same(deep.expected(NAMES, tower), deep.expected(NAMES))
    (weight,) = (weight for full, weight in tower.named_parameters() if full.endswith(name))
    with torch.no_grad():
        weight.view(-1)[3] += 0.01
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same(TextEncoder(deep.bundle).encode(NAMES), deep.expected(NAMES, tower))


def test_a_tower_that_knows_its_end_token_by_its_size_is_deployed(deep: Deep, tmp_path: Path) -> None:
    """As OpenAI's own configurations have it: their end token is 2, and the largest id is what counts."""
    trained = make_deep(tmp_path, end=2)
    assert_same(deep.expected(NAMES, trained.tower), deep.expected(NAMES))
    encoder = DeployedTextEncoder(trained.tower, trained.network, torch.tensor(deep.spec.prefix))
    for name, suffix in zip(NAMES, deep.tokenizer.suffixes(NAMES), strict=True):
        with torch.no_grad():
            got = PromptVectors(*(output.numpy() for output in encoder(torch.tensor([suffix]))))
        assert_same(got, deep.expected([name], trained.tower))


@pytest.mark.parametrize("length", [1, 2, 7, PREFIX, 40])
def test_any_part_of_the_prompts_may_be_the_prefix(deep: Deep, length: int) -> None:
    trained, ids = deep.trained, torch.from_numpy(deep.tokenizer(deep.spec.fill(["x" * ROOM])))
    encoder = DeployedTextEncoder(trained.tower, trained.network, ids[0, :length])
    with torch.no_grad():
        embeddings, queries = encoder(ids[:, length:])
    assert_same(PromptVectors(embeddings.numpy(), queries.numpy()), deep.expected(["x" * ROOM]))


def test_a_name_that_exceeds_the_context_is_named_by_place(deep: Deep) -> None:
    encoder = TextEncoder(deep.bundle)
    assert_same(encoder.encode(["z" * ROOM]), deep.expected(["z" * ROOM]))
    with pytest.raises(
        PromptError, match=rf"^classes\.txt, line 4: {tiny.CONTEXT + 1} tokens, the text tower takes {tiny.CONTEXT}; "
    ):
        encoder.encode(["polo", "z" * (ROOM + 1)], ["classes.txt, line 2", "classes.txt, line 4"])


@pytest.mark.parametrize(("K", "L"), [(1, 1), (1, 9), (5, 1), (5, 9), (300, ROOM + 1)])
def test_prompt_count_and_token_count_are_free(text_model_bytes: bytes, K: int, L: int) -> None:
    ids = np.full((K, L), 54)
    embeddings, queries = open_session(text_model_bytes, name="text", threads=1).run(None, {"token_ids": ids})
    assert embeddings.shape == (K, C)
    assert queries.shape == (K, H * C)


def test_the_interface_is_as_declared(text_model_bytes: bytes) -> None:
    assert interface(text_model_bytes) == declared(text_graph_spec(C, H))
    assert interface(text_model_bytes) == (
        {"token_ids": ("int64", ("K", "L"))},
        {"embeddings": ("float32", ("K", C)), "queries": ("float32", ("K", H * C))},
    )


def test_the_opset_is_the_localizers(text_model_bytes: bytes, localizer_model_bytes: bytes) -> None:
    for model in (text_model_bytes, localizer_model_bytes):
        versions = {entry.domain: entry.version for entry in onnx.load_from_string(model).opset_import}
        assert versions[""] == OPSET


def test_a_graph_is_whole_and_says_nothing_of_the_machine(text_model_bytes: bytes) -> None:
    assert_whole_and_anonymous(text_model_bytes)


def encoder_of(trained: TrainedStale, bundle: Path) -> DeployedTextEncoder:
    prefix = torch.tensor(Bundle(bundle).manifest.text_encoder.prefix)
    return DeployedTextEncoder(trained.tower, trained.network, prefix)


def test_the_same_tower_gives_the_same_bytes(trained: TrainedStale, bundle: Path, text_model_bytes: bytes) -> None:
    assert serialize(text_encoder_model(encoder_of(trained, bundle), text_graph_spec(C, H))) == text_model_bytes


class Unexportable(DeployedTextEncoder):
    def forward(self, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(token_ids if token_ids.sum().item() > 0 else -token_ids)


def test_what_cannot_be_exported_is_an_error_of_one_line(trained: TrainedStale, bundle: Path) -> None:
    prefix = torch.tensor(Bundle(bundle).manifest.text_encoder.prefix)
    encoder = Unexportable(trained.tower, trained.network, prefix)
    with pytest.raises(ExportError, match=r"^text encoder: PyTorch cannot export it to ONNX \(") as caught:
        text_encoder_model(encoder, text_graph_spec(C, H))
    assert "\n" not in str(caught.value)
