"""Training the demo's towers on stills and captions, as CLIP was trained."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from stale_model.demo.captions import describe, number_concepts
from stale_model.demo.demo_towers import DemoTowers, normalise_pixels, tokenize_texts
from stale_model.demo.stills import Stills
from stale_runtime.inference.text_encoder import PROMPT_TEMPLATE
from stale_runtime.inputs.features import CLIP_NORM

_WARM_UP = 0.05
"""Share of the steps in which the learning rate rises."""
_HIGHEST_SCALE = 100.0
_SHIFTS = (8, 6)
"""Most pixels that the images of a batch are shifted by, up or down, and to the left or right."""
_EVALUATED = 250


@dataclass(frozen=True, kw_only=True)
class TowerTraining:
    """How the towers are trained."""

    epochs: int = 7
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    seed: int = 0
    """Of the order of the stills, and of how they are shifted and mirrored."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError(f"{self.epochs} epochs of batches of {self.batch_size}, expected at least 1 and 2")


def train_towers(
    towers: DemoTowers,
    stills: Stills,
    training: TowerTraining,
    *,
    watch: Callable[[Iterator[int], int], Iterator[int]] = lambda steps, _total: steps,
) -> None:
    """Train both towers, and make their embeddings about as long as CLIP's.

    An image and a caption belong together if the caption is of what the image shows, in another image too.

    Args:
        towers: they change; in the end they are in evaluation mode.
        stills: at least a batch of them.
        training: how.
        watch: gets the numbers of the steps and how many there are, and yields them.

    Source: CLIP (Radford et al., 2021); targets of several positives as in SupCon (Khosla et al., 2020).
    """
    ids = tokenize_texts(towers.tokenizer, stills.captions)  # (N, L)
    same = torch.from_numpy(number_concepts(stills.concepts))  # (N,)
    scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
    towers.image.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    towers.text.train()
    parameters = [*towers.image.parameters(), *towers.text.parameters(), scale]
    optimizer = torch.optim.AdamW(
        parameters, lr=training.learning_rate, betas=(0.9, 0.98), weight_decay=training.weight_decay
    )
    rng = np.random.default_rng([training.seed, 1])
    batches = list(_batches(len(stills.images), training, rng))
    for step in watch(iter(range(len(batches))), len(batches)):
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * _rate(step / len(batches))
        rows = batches[step]
        images = towers.image(_augmented(stills, rows, rng))
        texts = towers.text(input_ids=ids[rows]).text_embeds
        logits = scale.exp().clamp(max=_HIGHEST_SCALE) * normalize(images, dim=1) @ normalize(texts, dim=1).T
        loss = contrastive_loss(logits, same[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    towers.image.eval()
    towers.text.train(mode=False)
    _make_as_long_as_clip(towers, stills)


def contrastive_loss(logits: Tensor, concepts: Tensor) -> Tensor:
    """How badly images and captions find each other.

    Args:
        logits: (B, B), similarity of each image with each caption.
        concepts: (B,), a number for what each image and its caption are about.

    Returns:
        The mean cross entropy over images and over captions, whose target is spread evenly over all that belong
        together.
    """
    target = (concepts[:, None] == concepts[None]).float()  # (B, B)
    target = target / target.sum(dim=1, keepdim=True)
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def tower_accuracy(towers: DemoTowers, stills: Stills, names: Sequence[str]) -> dict[str, float]:
    """Of the stills of each class, the part whose image is most similar to its own prompt among all.

    Args:
        towers: trained ones.
        stills: others than those of the training.
        names: classes; other stills are left out.

    Returns:
        A number in [0, 1] for each class that has stills.
    """
    described = {name.lower(): name for name in names}
    labels = [described.get(describe(concept)) for concept in stills.concepts]
    rows = [row for row, label in enumerate(labels) if label is not None]
    with torch.inference_mode():
        prompts = normalize(towers.embed_texts([PROMPT_TEMPLATE.format(name) for name in names]), dim=1)  # (K, C)
        found = np.array([], dtype=np.int64)
        for start in range(0, len(rows), _EVALUATED):
            images = towers.image(normalise_pixels(stills.images[rows[start : start + _EVALUATED]]))
            found = np.append(found, (images @ prompts.T).argmax(dim=1).numpy())
    right: dict[str, list[bool]] = {}
    for row, best in zip(rows, found.tolist(), strict=True):
        right.setdefault(str(labels[row]), []).append(names[best] == labels[row])
    return {name: float(np.mean(hits)) for name, hits in right.items()}


def _batches(count: int, training: TowerTraining, rng: np.random.Generator) -> Iterator[list[int]]:
    for _ in range(training.epochs):
        order = rng.permutation(count).tolist()
        for start in range(0, count - training.batch_size + 1, training.batch_size):
            yield order[start : start + training.batch_size]


def _rate(done: float) -> float:
    """The learning rate as a part of the highest: up along a line, and down along a cosine."""
    return min(1.0, (done + 1e-3) / _WARM_UP) * (0.5 * (1 + math.cos(math.pi * done)) + 1e-3)


def _augmented(stills: Stills, rows: Sequence[int], rng: np.random.Generator) -> Tensor:
    """The images of a batch as the tower gets them, half of them mirrored, and shifted by a few pixels."""
    images = stills.images[rows]  # (B, SIDE, SIDE, 3)
    mirrored = rng.random(len(rows)) < 0.5
    images[mirrored] = images[mirrored, :, ::-1]
    down, right = (int(rng.integers(-most, most + 1)) for most in _SHIFTS)
    return torch.roll(normalise_pixels(images), (down, right), (2, 3))


def _make_as_long_as_clip(towers: DemoTowers, stills: Stills) -> None:
    """Scale both projections, so that embeddings of images and of captions have CLIP's length in the mean."""
    with torch.no_grad():
        images = towers.image(normalise_pixels(stills.images[:_EVALUATED]))
        texts = towers.embed_texts(stills.captions[:_EVALUATED])
        towers.image.projection.weight.mul_(CLIP_NORM / images.norm(dim=1).mean())
        towers.text.text_projection.weight.mul_(CLIP_NORM / texts.norm(dim=1).mean())
