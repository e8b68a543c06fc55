import pytest

from stale_runtime.detections import Detection
from tests.arm.agreement import FEWEST, LARGEST_DIFFERENCE, Agreement, compare


def rows(count: int = FEWEST, *, score: float = 0.5) -> list[Detection]:
    return [Detection("polo", float(n), n + 1.5, score) for n in range(count)]


def test_equal_detections_agree_in_any_order() -> None:
    found = compare({"a": rows(), "b": rows(3)}, {"b": rows(3), "a": rows()[::-1]})
    assert found == Agreement(detections=FEWEST + 3, missing=0, surplus=0, difference=0.0)
    assert found.is_close
    assert str(found) == "23 equal segments, scores within 0e+00"


@pytest.mark.parametrize(
    "changed",
    [
        Detection("archery", 0.0, 1.5, 0.5),
        Detection("polo", 0.0, 1.500001, 0.5),
        Detection("polo", 0.000001, 1.5, 0.5),
    ],
)
def test_another_label_or_segment_does_not_agree(changed: Detection) -> None:
    found = compare({"a": rows()}, {"a": [changed, *rows()[1:]]})
    assert (found.missing, found.surplus, found.is_close) == (1, 1, False)
    assert str(found) == "1 of 20 segments missing, 1 others"


def test_videos_are_told_apart() -> None:
    found = compare({"a": rows(), "b": []}, {"a": [], "b": rows()})
    assert (found.missing, found.surplus) == (FEWEST, FEWEST)


def test_a_segment_that_is_found_twice_must_be_found_twice() -> None:
    twice = [*rows(), Detection("polo", 0.0, 1.5, 0.3)]
    assert compare({"a": twice}, {"a": twice[::-1]}).is_close
    assert compare({"a": twice}, {"a": rows()}).missing == 1
    surplus = compare({"a": rows()}, {"a": twice})
    assert (surplus.missing, surplus.surplus, surplus.is_close) == (0, 1, False)


@pytest.mark.parametrize(("times", "is_close"), [(0.9, True), (1.1, False)])
def test_scores_may_differ_a_little(times: float, is_close: bool) -> None:
    others = [*rows()[1:], Detection("polo", 0.0, 1.5, 0.5 + times * LARGEST_DIFFERENCE)]
    found = compare({"a": rows()}, {"a": others})
    assert found.difference == pytest.approx(times * LARGEST_DIFFERENCE)
    assert found.is_close == is_close


def test_too_few_detections_show_nothing() -> None:
    found = compare({"a": rows(FEWEST - 1)}, {"a": rows(FEWEST - 1)})
    assert not found.is_close
    assert str(found) == "only 19 detections, expected at least 20"
