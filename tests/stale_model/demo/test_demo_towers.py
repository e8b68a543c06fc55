"""Stills and captions, the towers that are trained on them, and their files."""

import copy
import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from tokenizers import Tokenizer
from transformers import CLIPTextModelWithProjection

from stale_model.checkpoints.clip import read_clip_parts
from stale_model.demo import tower_files
from stale_model.demo.captions import all_words, describe
from stale_model.demo.demo_classes import SEEN, SPLITS, UNSEEN, UNSEEN_PAIRS, VERBS
from stale_model.demo.demo_tokenizer import END, START, make_tokenizer
from stale_model.demo.demo_towers import CHANNELS, SIDE, DemoTowers, normalise_pixels
from stale_model.demo.stills import Stills, draw_stills
from stale_model.demo.tower_files import text_tower_files, write_vision_folder
from stale_model.demo.tower_training import TowerTraining, contrastive_loss, tower_accuracy, train_towers
from stale_runtime.errors import ParityError
from stale_runtime.video.vision_encoder import VisionEncoder

TRAINING = TowerTraining(epochs=16, batch_size=32, seed=3)
SHORT = TowerTraining(epochs=1, batch_size=32, seed=3)


@pytest.fixture(scope="module")
def stills() -> Stills:
    return draw_stills(96, seed=0, unseen=False)


@pytest.fixture(scope="module")
def towers(stills: Stills) -> DemoTowers:
    towers = DemoTowers.draw(SPLITS["all"], seed=3)
    train_towers(towers, stills, TRAINING)
    return towers


def test_stills_leave_out_the_unseen_pairs_and_captions_say_what_is_shown() -> None:
    stills = draw_stills(1500, seed=1, unseen=False)
    shown = set(stills.concepts)
    assert not shown & UNSEEN_PAIRS
    assert {(verb, thing) for verb, thing in shown if verb in VERBS} | UNSEEN_PAIRS >= {
        (name.split()[0].lower(), name.split()[2]) for name in SPLITS["all"]
    }
    for concept, caption in zip(stills.concepts, stills.captions, strict=True):
        assert describe(concept) in caption
        assert not any(name.lower() in caption for name in UNSEEN)
        assert [verb for verb in VERBS if verb in caption] == [verb for verb in VERBS if verb == concept.doing]
    assert set(draw_stills(1500, seed=1, unseen=True).concepts) >= UNSEEN_PAIRS


def test_stills_are_decided_by_their_seed(stills: Stills) -> None:
    again, other = draw_stills(96, seed=0, unseen=False), draw_stills(96, seed=5, unseen=False)
    np.testing.assert_array_equal(stills.images, again.images)
    assert (stills.concepts, stills.captions) == (again.concepts, again.captions)
    assert (stills.images != other.images).any()
    assert stills.images.shape == (96, SIDE, SIDE, 3)


def test_the_tokenizer_knows_the_words_and_spells_all_else() -> None:
    tokenizer = make_tokenizer(all_words(SEEN))

    def tokens(text: str) -> list[str]:
        return list(tokenizer.encode(text).tokens)

    words = ["a", "video", "of", "action", "washing", "a", "car"]
    assert tokens("A video  of action Washing a CAR") == [START, *words, END]
    assert tokens("cars") == [START, "c", "a", "r", "s</w>", END]
    printable = "".join(map(chr, range(32, 127)))
    for text in (printable, *printable.split(), "écluse, 氷"):
        assert END not in tokens(text)[1:-1], "an unknown token"


def test_every_word_of_the_captions_and_classes_is_one_token(stills: Stills) -> None:
    tokenizer = make_tokenizer(all_words(SPLITS["all"]))
    for text in (*stills.captions, *SPLITS["all"]):
        assert len(tokenizer.encode(text).ids) == len(text.split()) + 2


def test_the_loss_is_the_cross_entropy_with_all_captions_of_the_same_concept() -> None:
    logits = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 1.0], [1.0, 0.0, 2.0]])
    target = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    expected = (
        -(target * logits.log_softmax(1)).sum(1).mean() / 2 - (target * logits.T.log_softmax(1)).sum(1).mean() / 2
    )
    assert contrastive_loss(logits, torch.tensor([7, 7, 4])).item() == pytest.approx(expected.item())
    assert contrastive_loss(100 * torch.eye(3), torch.tensor([0, 1, 2])).item() == pytest.approx(0, abs=1e-6)
    assert contrastive_loss(100 * torch.eye(3)[[1, 2, 0]], torch.tensor([0, 1, 2])).item() > 50


def test_training_brings_images_and_their_captions_together(stills: Stills, towers: DemoTowers) -> None:
    with torch.inference_mode():
        images = torch.nn.functional.normalize(towers.image(normalise_pixels(stills.images)), dim=1)
        texts = torch.nn.functional.normalize(towers.embed_texts(stills.captions), dim=1)
    cosines = (images @ texts.T).numpy()
    belong = np.array([[a == b for b in stills.concepts] for a in stills.concepts])
    assert cosines[belong].mean() > cosines[~belong].mean() + 0.1


def test_embeddings_are_about_as_long_as_clip_s(stills: Stills, towers: DemoTowers) -> None:
    with torch.inference_mode():
        images = towers.image(normalise_pixels(stills.images)).norm(dim=1)
        texts = towers.embed_texts(stills.captions).norm(dim=1)
    assert images.mean().item() == pytest.approx(10, rel=0.1)
    assert texts.mean().item() == pytest.approx(10, rel=0.1)


def test_the_same_seed_gives_the_same_towers_whatever_was_drawn_before(stills: Stills) -> None:
    first, second, other = (DemoTowers.draw(SPLITS["all"], seed=seed) for seed in (3, 3, 4))
    for drawn in (first, second, other):
        train_towers(drawn, stills, SHORT)
        torch.rand(5)
    for part in ("image", "text"):
        weights, same, others = (getattr(drawn, part).state_dict() for drawn in (first, second, other))
        assert all(torch.equal(value, same[name]) for name, value in weights.items())
        assert not all(torch.equal(value, others[name]) for name, value in weights.items())


def test_accuracy_counts_the_stills_whose_own_prompt_is_the_most_similar(stills: Stills) -> None:
    towers = copy.deepcopy(DemoTowers.draw(SPLITS["all"], seed=0))
    names = sorted({describe(concept) for concept in stills.concepts if concept.doing in VERBS})
    prompts = torch.eye(CHANNELS)[: len(names)]

    def know(images: torch.Tensor) -> torch.Tensor:
        """Embeddings that are right, but for the first class, which is taken for the second."""
        texts = [describe(stills.concepts[row]) for row in rows[: len(images)]]
        del rows[: len(images)]
        return torch.stack([prompts[max(names.index(text), 1)] for text in texts])

    rows = [row for row, concept in enumerate(stills.concepts) if concept.doing in VERBS]
    object.__setattr__(towers, "image", know)
    object.__setattr__(towers, "embed_texts", lambda _texts: prompts)
    accuracy = tower_accuracy(towers, stills, names)
    assert accuracy == {name: float(name != names[0]) for name in names}


def test_transformers_loads_the_text_tower_as_it_is(
    towers: DemoTowers, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, content in text_tower_files(towers).items():
        (tmp_path / name).write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded: Any = CLIPTextModelWithProjection.from_pretrained(tmp_path, output_loading_info=True)
    tower, loading = loaded
    assert not any(loading.values())
    assert not re.search("warn|missing|newly|unexpected", capfd.readouterr().err, re.IGNORECASE)
    parts = read_clip_parts(str(tmp_path))
    assert (parts.text_config.projection_dim, parts.text_config.max_position_embeddings) == (CHANNELS, 77)
    tokenizer = Tokenizer.from_str(parts.tokenizer_json.decode())
    assert parts.text_config.vocab_size == tokenizer.get_vocab_size()
    read = DemoTowers(image=towers.image, text=tower.eval(), tokenizer=tokenizer)
    with torch.inference_mode():
        assert torch.equal(read.embed_texts(SEEN), towers.embed_texts(SEEN))


def test_the_vision_folder_embeds_images_as_pytorch_does(stills: Stills, towers: DemoTowers, tmp_path: Path) -> None:
    write_vision_folder(tmp_path, towers, stills.images[:5])
    assert b"site-packages" not in (tmp_path / "vision_encoder.onnx").read_bytes(), "equal wherever it is made"
    encoder = VisionEncoder.open_folder(tmp_path, channels=CHANNELS)
    assert encoder.recipe.usable
    assert (encoder.recipe.snippet_s, encoder.recipe.resize, encoder.recipe.image_size) == (0.5, "squash", SIDE)
    with torch.inference_mode():
        expected = towers.image(normalise_pixels(stills.images)).numpy()
    np.testing.assert_allclose(encoder.embed(stills.images), expected, atol=1e-4)
    session = onnxruntime.InferenceSession(tmp_path / "vision_encoder.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 2, 7):
        (found,) = session.run(None, {"pixels": normalise_pixels(stills.images[:count]).contiguous().numpy()})
        np.testing.assert_allclose(found, expected[:count], atol=1e-4)
    assert json.loads((tmp_path / "recipe.json").read_text())["normalised"] is False


def test_an_exported_tower_that_differs_is_refused(
    stills: Stills, towers: DemoTowers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = copy.deepcopy(towers.image)
    with torch.no_grad():
        other.projection.weight.mul_(1.01)
    export = tower_files._export
    monkeypatch.setattr(tower_files, "_export", lambda _tower: export(other))
    with pytest.raises(ParityError, match=r"vision_encoder\.onnx: embeddings differ from PyTorch's by .*; nothing was"):
        write_vision_folder(tmp_path, towers, stills.images[:5])
