import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_runtime.decoding.proposals import Proposals, Ranked, class_scores, longest_runs


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1), st.sampled_from([1, 100, 1e30]))
def test_class_scores_and_background_add_up_to_1(K: int, T: int, seed: int, size: float) -> None:
    cas_logits = (np.random.default_rng(seed).standard_normal((K + 1, T)) * size).astype(np.float32)
    S = class_scores(cas_logits)
    assert S.shape == (K, T)
    assert ((S >= 0) & (S <= 1)).all()
    background = class_scores(cas_logits[::-1])[0] if K == 1 else class_scores(np.roll(cas_logits, 1, axis=0))[0]
    np.testing.assert_allclose(S.sum(axis=0) + background, 1, rtol=1e-5)


def test_class_scores_by_value() -> None:
    cas_logits = np.log(np.array([[1.0, 2.0], [3.0, 2.0], [4.0, 4.0]]))
    np.testing.assert_allclose(class_scores(cas_logits), [[1 / 8, 2 / 8], [3 / 8, 2 / 8]])


@given(st.integers(-500, 500))
def test_class_scores_depend_on_differences_only(shift: int) -> None:
    cas_logits = np.array([[1.0, -2.0], [3.0, 0.0], [0.0, 5.0]])
    np.testing.assert_allclose(class_scores(cas_logits + shift), class_scores(cas_logits), rtol=1e-12)


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ("1", (0, 0)),
        ("0110", (1, 2)),
        ("1011", (2, 3)),
        ("11011", (0, 1)),
        ("0101110111", (3, 5)),
        ("1111", (0, 3)),
    ],
)
def test_longest_run_by_value(on: str, expected: tuple[int, int]) -> None:
    first, last = longest_runs(np.array(list(on)) == "1")
    assert (int(first), int(last)) == expected


@given(st.lists(st.lists(st.booleans(), min_size=12, max_size=12).filter(any), min_size=1, max_size=5))
def test_longest_runs_are_those_found_by_looking(rows: list[list[bool]]) -> None:
    firsts, lasts = longest_runs(np.array(rows))
    for row, first, last in zip(rows, firsts.tolist(), lasts.tolist(), strict=True):
        runs = [(a, b) for a in range(12) for b in range(a, 12) if all(row[a : b + 1])]
        assert (first, last) == max(runs, key=lambda run: (run[1] - run[0], -run[0]))


def test_a_score_is_mask_score_times_class_score() -> None:
    proposals = Proposals(np.zeros(2, dtype=np.intp), np.zeros((2, 2)), np.array([0.5, 2.0]), np.array([0.5, 0.25]))
    np.testing.assert_array_equal(proposals.scores, [0.25, 0.5])


def ranked(classes: list[int], scores: list[float]) -> Ranked:
    starts = np.arange(len(scores), dtype=np.float64)
    return Ranked(np.array(classes, np.intp), np.stack([starts, starts + 1], axis=1), np.array(scores, np.float64))


def test_joined_are_the_parts_one_after_the_other() -> None:
    parts = [ranked([1, 2], [0.1, 0.2]), ranked([], []), ranked([0], [0.9])]
    joined = Ranked.joined(parts)
    assert joined.classes.tolist() == [1, 2, 0]
    assert joined.segments.tolist() == [[0, 1], [1, 2], [0, 1]]
    assert joined.scores.tolist() == [0.1, 0.2, 0.9]


def test_no_parts_are_no_segments_but_of_the_right_shapes() -> None:
    none = Ranked.joined([])
    assert [field.shape for field in none] == [(0,), (0, 2), (0,)]
    assert [field.dtype.kind for field in none] == ["i", "f", "f"]
    assert len(none.best(3).scores) == len(none.best(None).scores) == 0


def test_some_are_chosen_by_mask_or_index() -> None:
    some = ranked([4, 5, 6], [0.1, 0.2, 0.3])
    for chosen in (np.array([True, False, True]), np.array([0, 2])):
        found = some.where(chosen)
        assert found.classes.tolist() == [4, 6]
        assert found.segments.tolist() == [[0, 1], [2, 3]]
        assert found.scores.tolist() == [0.1, 0.3]
    assert some.where(np.array([2, 0])).classes.tolist() == [6, 4]


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=20), st.none() | st.integers(0, 25))
def test_the_best_come_first_and_of_equal_ones_the_earlier(scores: list[float], most: int | None) -> None:
    best = ranked([*range(len(scores))], scores).best(most)
    expected = sorted(range(len(scores)), key=lambda n: (-scores[n], n))[:most]
    assert best.classes.tolist() == expected
    assert best.scores.tolist() == [scores[n] for n in expected]
    assert best.segments[:, 0].tolist() == expected
