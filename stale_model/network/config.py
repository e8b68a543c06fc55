"""The sizes of a STALE network."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class StaleConfig:
    """Sizes of a STALE network; the defaults are the published ones."""

    channels: int = 512
    """C, width of a snippet feature and of a prompt embedding."""
    temporal_scale: int = 100
    """T that the network is trained at, in snippets."""
    heads: int = 4
    """H of both attention blocks; each head is C wide."""
    mask_channels: int = 256
    """Width between the two convolutions of the action-mask localizer."""
    attention_dropout: float = 0.1
    """Dropout of the attention weights of both blocks, in [0, 1)."""
    embedding_dropout: float = 0.2
    """Dropout of the snippet embedding, in [0, 1)."""
    adaptation_dropout: float = 0.3
    """Dropout of the cross-adaptation, in [0, 1)."""
    foreground_heads: int = 2
    """Heads of the foreground branch; each is C / heads wide."""
    foreground_layers: int = 2
    """Encoder layers of the foreground branch, and also decoder layers."""
    foreground_feedforward: int = 1
    """Width of the feed-forward layers in the foreground branch."""
    foreground_dropout: float = 0.1
    """Dropout of the foreground branch, in [0, 1)."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("dropout"):
                if not 0 <= value < 1:
                    raise ValueError(f"{field.name}: got {value}, expected a probability in [0, 1)")
            elif not isinstance(value, int) or value < 1:
                raise ValueError(f"{field.name}: got {value!r}, expected a positive integer")
        if self.channels % self.foreground_heads:
            raise ValueError(f"channels: got {self.channels}, expected a multiple of {self.foreground_heads} heads")
        if self.channels % 4:
            raise ValueError(f"channels: got {self.channels}, expected a multiple of 4 for the sine positions")
