from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from stale_model import StaleConfig

SIZES = [field.name for field in fields(StaleConfig) if not field.name.endswith("dropout")]
DROPOUTS = [field.name for field in fields(StaleConfig) if field.name.endswith("dropout")]


def with_value(name: str, value: Any) -> StaleConfig:
    return StaleConfig(**{name: value})


def test_the_defaults_are_the_published_sizes() -> None:
    config = StaleConfig()
    assert (config.channels, config.temporal_scale, config.heads, config.mask_channels) == (512, 100, 4, 256)
    assert (config.embedding_dropout, config.adaptation_dropout) == (0.2, 0.3)
    assert (config.foreground_heads, config.foreground_layers, config.foreground_feedforward) == (2, 2, 1)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [0, -4, 8.0, "8", None])
def test_sizes_are_positive_integers(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name}: got {value!r}, expected a positive integer$"):
        with_value(name, value)


@pytest.mark.parametrize("name", DROPOUTS)
@pytest.mark.parametrize("value", [-0.1, 1.0, 1.5, float("nan")])
def test_dropouts_are_probabilities_below_one(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: got {value}, expected a probability in \[0, 1\)$"):
        with_value(name, value)


@pytest.mark.parametrize("name", DROPOUTS)
def test_no_dropout_is_a_dropout(name: str) -> None:
    assert getattr(with_value(name, 0.0), name) == 0


def test_the_foreground_heads_share_the_channels() -> None:
    with pytest.raises(ValueError, match=r"^channels: got 16, expected a multiple of 3 heads"):
        StaleConfig(channels=16, foreground_heads=3)
    assert StaleConfig(channels=12, foreground_heads=3).channels == 12


def test_the_sine_positions_need_channels_in_fours() -> None:
    with pytest.raises(ValueError, match=r"^channels: got 18, expected a multiple of 4"):
        StaleConfig(channels=18)


def test_a_config_cannot_change_after_it_was_checked() -> None:
    with pytest.raises(FrozenInstanceError):
        StaleConfig().channels = 0  # type: ignore[misc]
