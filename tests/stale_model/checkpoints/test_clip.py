import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from stale_model import read_original_checkpoint
from stale_model.checkpoints import clip as clip_module
from stale_model.checkpoints.clip import (
    END_TOKEN,
    ClipParts,
    TextTower,
    empty_tower,
    read_clip_parts,
    read_tower,
    text_encoder_spec,
)
from stale_runtime.errors import CheckpointError
from tests import tiny
from tests.runtime.helpers import no_waiting

PROJECTION = "text_projection.weight"


@pytest.fixture
def folder(clip_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clip_folder, tmp_path / "my-clip"))


def edit_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / "config.json").read_text())
    change(content)
    (folder / "config.json").write_text(json.dumps(content))


def refusal(clip: str) -> str:
    """The error for a CLIP that cannot be used, which must be one line that names it."""
    with pytest.raises(CheckpointError) as caught:
        read_clip_parts(clip)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"--clip {clip}: ")
    assert message.endswith("or a folder with config.json and tokenizer.json")
    return message.split(";")[0]  # without the remedy


def test_a_folder_gives_configuration_and_tokenizer(folder: Path) -> None:
    parts = read_clip_parts(str(folder))
    assert parts.name == "my-clip"
    assert parts.text_config.hidden_size == 8
    assert parts.text_config.num_hidden_layers == 1
    assert parts.text_config.max_position_embeddings == tiny.CONTEXT
    assert parts.text_config.projection_dim == tiny.CHANNELS
    assert parts.tokenizer_json == (folder / "tokenizer.json").read_bytes()
    assert END_TOKEN in json.loads(parts.tokenizer_json)["model"]["vocab"]


def test_the_name_says_nothing_of_where_the_folder_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert read_clip_parts(".").name == "my-clip"
    monkeypatch.chdir(folder.parent)
    assert read_clip_parts("my-clip/").name == "my-clip"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_folder_without_one_of_its_files_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert name in refusal(str(folder))


@pytest.mark.parametrize("content", ["", "{", "null", "[]", '"clip"', "[" * 100_000, "\0\xff"])
def test_a_broken_configuration_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    refusal(str(folder))


@pytest.mark.parametrize("content", [{}, {"hidden_size": 8}, {"model_type": "bert", "hidden_size": 8}])
def test_a_configuration_of_something_else_is_refused(folder: Path, content: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(content))
    refusal(str(folder))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_attention_heads", 3),
        ("hidden_act", "no-such-function"),
        ("vocab_size", "many"),
        ("vocab_size", -3),
        ("hidden_size", None),
        ("num_hidden_layers", 1.5),
        ("num_hidden_layers", 65),
        ("num_hidden_layers", True),
        ("intermediate_size", 2**40),
        ("hidden_act", [1]),
        ("layer_norm_eps", float("nan")),
        ("layer_norm_eps", "1"),
        ("layer_norm_eps", -1.0),
        ("attention_dropout", 5.0),
        ("attention_dropout", True),
        ("eos_token_id", None),
        ("eos_token_id", [1, 2]),
        ("eos_token_id", 2**70),
        ("eos_token_id", 55),
        ("bos_token_id", {"a": 1}),
        ("pad_token_id", -1),
    ],
)
def test_an_impossible_tower_is_refused(checkpoint: Path, folder: Path, key: str, value: object) -> None:
    edit_config(folder, lambda content: content["text_config"].update({key: value}))
    with pytest.raises(CheckpointError) as caught:
        read_original_checkpoint(checkpoint, str(folder))
    assert "\n" not in str(caught.value)
    assert key in str(caught.value) or value in ("no-such-function", 3, 65)


def test_a_configuration_without_an_end_token_that_its_vocabulary_has_is_refused(folder: Path) -> None:
    edit_config(folder, lambda content: content["text_config"].pop("eos_token_id"))
    assert "no eos_token_id, expected one of 55 tokens" in refusal(str(folder))


def test_tokens_that_the_tower_does_not_look_at_may_be_nothing(folder: Path) -> None:
    edit_config(folder, lambda content: content["text_config"].update(bos_token_id=None, pad_token_id=None))
    assert read_clip_parts(str(folder)).text_config.eos_token_id == 54


@pytest.mark.parametrize("factor", [float("nan"), -1.0, 1.0])
@pytest.mark.parametrize("spread", [float("nan"), -1.0, 0.02])
def test_a_tower_at_random_is_drawn_as_transformers_does_whatever_a_configuration_says(
    folder: Path, factor: float, spread: float
) -> None:
    ordinary = json.loads((folder / "config.json").read_text())["text_config"]
    edit_config(
        folder, lambda content: content["text_config"].update(initializer_factor=factor, initializer_range=spread)
    )
    states = []
    for config in (read_clip_parts(str(folder)).text_config, CLIPTextConfig(**ordinary)):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            states.append(TextTower(config).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_nothing_but_what_the_tower_computes_is_taken_from_a_configuration(folder: Path) -> None:
    expected = read_clip_parts(str(folder)).text_config.to_dict()
    edit_config(folder, lambda content: content["text_config"].update(_attn_implementation="some-one/kernel", x="y"))
    assert read_clip_parts(str(folder)).text_config.to_dict() == expected


@pytest.mark.parametrize("value", [None, [1], "text"])
def test_a_configuration_without_a_text_tower_is_refused(folder: Path, value: object) -> None:
    edit_config(folder, lambda content: content.update(text_config=value))
    refusal(str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_file_that_is_too_large_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(clip_module, "LARGEST_FILE", 10_000)
    read_clip_parts(str(folder))
    with open(folder / name, "ab") as file:
        file.write(b" " * 10_000)
    assert f"{name}: more than 10,000 bytes" in refusal(str(folder))


def test_a_tokenizer_that_panics_is_refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What fuzzing found: a template for a token that it does not have."""
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"]["special_tokens"].pop(END_TOKEN)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"^--clip my-clip: tokenizer\.json is not like CLIP's \("):
        text_encoder_spec(read_clip_parts(str(folder)))
    assert "panicked" in capfd.readouterr().err  # else it tests nothing


def test_a_tokenizer_that_makes_any_amount_of_a_word_is_refused(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    doubling = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    content["normalizer"] = {"type": "Sequence", "normalizers": [doubling] * 40}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with no_waiting(), pytest.raises(CheckpointError, match=r"^--clip my-clip: tokenizer\.json is not like CLIP's \("):
        text_encoder_spec(read_clip_parts(str(folder)))


@pytest.mark.parametrize("context", [3, 2**20])
def test_a_tower_that_takes_no_such_prompts_is_refused(folder: Path, context: int) -> None:
    edit_config(folder, lambda content: content["text_config"].update(max_position_embeddings=context))
    with pytest.raises(CheckpointError, match=r"^--clip my-clip: context_length is .*; expected CLIP's tokenizer$"):
        text_encoder_spec(read_clip_parts(str(folder)))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refusal(str(tmp_path / "nowhere"))


def test_a_file_in_place_of_a_folder_is_refused(clip_folder: Path) -> None:
    refusal(str(clip_folder / "tokenizer.json"))


@pytest.mark.parametrize("clip", ["", "a/b/c/d", "no such id"])
def test_what_is_no_hugging_face_id_is_refused(clip: str) -> None:
    refusal(clip)


def test_an_id_that_cannot_be_reached_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        attempts.append(arguments)
        raise OSError("no network in tests")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(
        CheckpointError, match=r"cannot be reached \(HF_HUB_OFFLINE is set\), .*; give --clip FOLDER with"
    ):
        read_clip_parts("stale-edge/no-such-clip")
    assert attempts == []


def test_the_tower_computes_what_transformers_does(clip_folder: Path) -> None:
    tower = tiny.make_tower(clip_folder)
    clip = CLIPTextModelWithProjection(tower.clip.config)
    clip.train(mode=False)
    clip.load_state_dict(tower.clip.state_dict())
    ids = torch.randint(0, 54, (3, 7), generator=torch.Generator().manual_seed(0))
    ids[:, -1] = 54
    with torch.no_grad():
        assert torch.equal(tower(ids), clip(input_ids=ids).text_embeds)
        assert tower(ids).shape == (3, tiny.CHANNELS)


@pytest.fixture
def whole(folder: Path) -> Path:
    """A folder with weights as well."""
    save_weights(folder, tiny.make_tower(folder, 3).clip.state_dict())
    return folder


def save_weights(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def read_whole(folder: Path) -> TextTower | None:
    return read_tower(str(folder), read_clip_parts(str(folder)).text_config)


def test_a_tower_starts_with_the_weights_of_a_folder(whole: Path) -> None:
    tower = read_whole(whole)
    assert tower is not None
    ids = torch.tensor([[53, 1, 2, 54]])
    with torch.no_grad():
        assert torch.equal(tower(ids), tiny.make_tower(whole, 3)(ids))


def test_without_weights_there_is_no_tower(folder: Path) -> None:
    assert read_whole(folder) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda weights: {**weights, PROJECTION: weights[PROJECTION] * torch.nan}, f"{PROJECTION} contains NaN"),
        (lambda weights: {name: weights[name] for name in weights if name != PROJECTION}, f"lack {PROJECTION}"),
        (lambda weights: {**weights, PROJECTION: weights[PROJECTION][:3].contiguous()}, "cannot be read"),
    ],
)
def test_weights_that_are_no_tower_are_refused(whole: Path, change: Callable[[Any], Any], says: str) -> None:
    save_weights(whole, change(tiny.make_tower(whole).clip.state_dict()))
    with pytest.raises(CheckpointError, match=says) as caught:
        read_whole(whole)
    assert "\n" not in str(caught.value)


def test_a_configuration_has_no_code_fetched_with_the_weights(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for key in ("_attn_implementation", "attn_implementation", "experts_implementation"):
        edit_config(whole, lambda content, key=key: content["text_config"].update({key: "some-one/kernel"}))  # type: ignore[misc]
    edit_config(whole, lambda content: content["text_config"].update(quantization_config={"quant_method": "awq"}))
    tower = read_whole(whole)
    assert tower is not None
    assert tower.clip.config._attn_implementation == "sdpa"
    assert asked == []


def test_padding_with_the_end_token_changes_nothing(clip_folder: Path) -> None:
    tower = tiny.make_tower(clip_folder)
    ids = torch.tensor([[53, 1, 2, 3, 54]])
    padded = torch.nn.functional.pad(ids, (0, 9), value=54)
    with torch.no_grad():
        torch.testing.assert_close(tower(padded), tower(ids), rtol=0, atol=1e-6)
        assert (tower(ids.flip(1)) - tower(ids)).abs().max() > 1e-3


def test_an_empty_tower_takes_no_memory(clip_folder: Path) -> None:
    parts: ClipParts = read_clip_parts(str(clip_folder))
    empty, full = empty_tower(parts.text_config).state_dict(), tiny.make_tower(clip_folder).state_dict()
    assert all(tensor.is_meta for tensor in empty.values())
    assert {name: tensor.shape for name, tensor in empty.items()} == {name: t.shape for name, t in full.items()}
