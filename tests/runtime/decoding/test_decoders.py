import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_runtime.decoding.action_masks import FullMasks
from stale_runtime.decoding.decoders import CLOSED_SET_PROMPTS, DECODERS, NEUTRAL, decode_detections, unreported_class
from stale_runtime.segments import FloatArray


def noise(seed: int, K: int, T: int) -> tuple[FloatArray, FullMasks]:
    generator = np.random.default_rng(seed)
    cas_logits = generator.normal(0, 3, (K + 1, T))
    return cas_logits, FullMasks(1 / (1 + np.exp(-generator.normal(0, 2, (T, T)))))


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(sorted(DECODERS)), st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 4))
def test_classes_that_are_not_reported_count_as_background(decoder: str, seed: int, K: int, unreported: int) -> None:
    cas_logits, masks = noise(seed, K + unreported, 40)
    found = DECODERS[decoder](cas_logits, masks, reported=K)
    background = np.logaddexp.reduce(cas_logits[K:])
    expected = DECODERS[decoder](np.vstack([cas_logits[:K], background]), masks)
    np.testing.assert_array_equal(found.classes, expected.classes)
    np.testing.assert_allclose(found.segments, expected.segments)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-9)


@pytest.mark.parametrize("decoder", sorted(DECODERS))
@pytest.mark.parametrize("reported", [0, -1, 4])
def test_a_number_of_classes_that_there_is_not_is_refused(decoder: str, reported: int) -> None:
    with pytest.raises(ValueError, match=f"{reported} reported classes, expected 1 to 3"):
        DECODERS[decoder](*noise(0, 3, 40), reported=reported)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([NEUTRAL], None),
        (["Happy", "Sad", NEUTRAL], None),
        ([str(n) for n in range(CLOSED_SET_PROMPTS)], None),
        ([*map(str, range(CLOSED_SET_PROMPTS - 1)), NEUTRAL.lower()], None),
        ([*map(str, range(CLOSED_SET_PROMPTS - 1)), NEUTRAL], 200),
        ([NEUTRAL, *map(str, range(CLOSED_SET_PROMPTS - 1))], 0),
        ([*map(str, range(CLOSED_SET_PROMPTS)), NEUTRAL], None),
    ],
)
def test_neutral_is_special_in_the_closed_set_only(names: list[str], expected: int | None) -> None:
    assert unreported_class(names) == expected


@pytest.mark.parametrize("decoder", sorted(DECODERS))
def test_detections_have_the_names_of_their_classes(decoder: str) -> None:
    cas_logits, masks = noise(3, 3, 60)
    cas_logits[1] += 30
    rows = decode_detections(decoder, cas_logits, masks, ["a", "b", "c"], 30.0)
    assert rows[0].label == "b"
    assert 0 <= rows[0].start < rows[0].end <= 30
