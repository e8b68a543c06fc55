"""The settings that decide the result of a training. Importing this module does not load PyTorch."""

from dataclasses import asdict, dataclass, field

_NEARER_TO_HALF = 0.375
"""Share of unseen classes halfway between the two published splits, 0.25 and 0.5."""


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """How much each term of the loss counts."""

    classification: float = 0.4
    masks: float = 0.3
    foreground: float = 0.1
    consistency: float = 1.0

    @classmethod
    def for_split(cls, *, seen: int, unseen: int) -> "LossWeights":
        """The original's weights for a split: one set if half of the classes are unseen, the defaults otherwise.

        The published splits keep 0, 25 or 50 % of the classes unseen. Any other split gets the weights of the nearest:
        those for half of the classes if more than 37.5 % are unseen.

        Args:
            seen: number of the classes that are trained, at least 1.
            unseen: number of the classes that are not.

        Source: ``stale_lib/loss_stale.py`` of the published training code.
        """
        if unseen / (seen + unseen) > _NEARER_TO_HALF:
            return cls(classification=0.1, masks=1.0, foreground=0.1, consistency=0.1)
        return cls()

    def __str__(self) -> str:
        return ", ".join(f"{name} {weight:g}" for name, weight in asdict(self).items())


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How to train. The original used batches of 100, learning rate 4e-5, 5 epochs and step decay."""

    epochs: int = 12
    """Passes over the training videos."""
    batch_size: int = 32
    """Videos in a step, of all processes together."""
    learning_rate: float = 2e-4
    """Learning rate at the start, in (0, 1); it falls along a cosine to 0."""
    weight_decay: float = 0.02
    """Weight decay of AdamW, in [0, 1)."""
    length: int = 100
    """T, in snippets."""
    seed: int = 0
    """Seed of the initial weights, the order of the videos, and dropout."""
    freeze_text: bool = False
    """Whether the text tower is left unchanged; prompts are then embedded once."""
    workers: int = 0
    """Processes that read features; with 0 they are read between the steps."""
    weights: LossWeights = field(default_factory=LossWeights)
    """Weights of the terms of the loss."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected at least 1")
        if not 0 < self.learning_rate < 1 or not 0 <= self.weight_decay < 1:
            raise ValueError(
                f"learning_rate {self.learning_rate}, weight_decay {self.weight_decay}; expected less than 1, and a "
                "learning rate above 0"
            )
