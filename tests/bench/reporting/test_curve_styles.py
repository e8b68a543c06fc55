import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_bench.reporting.curve_styles import DARK, DASHES, LIGHT, MARKS, colour_number, dash_number, mark_outline

SEES_NO_RED = np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]])
SEES_NO_GREEN = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
SEES_NO_BLUE = np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]])
"""Linear RGB as people see it who lack one kind of cone (Machado, Oliveira and Fernandes, 2009, severity 1)."""
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> NDArray[np.float64]:
    values = np.array([int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours in CIELAB, in which a distance of 2.3 is just noticeable."""
    x, y, z = np.cbrt(np.maximum(TO_XYZ @ np.clip(rgb, 0, 1) / (TO_XYZ @ np.ones(3)), 1e-4))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("colours", [LIGHT, DARK])
@pytest.mark.parametrize("sight", [np.eye(3), SEES_NO_RED, SEES_NO_GREEN, SEES_NO_BLUE])
def test_colours_stay_apart_for_everyone(colours: tuple[str, ...], sight: NDArray[np.float64]) -> None:
    for one, other in itertools.combinations(colours, 2):
        assert np.linalg.norm(lab(sight @ linear(one)) - lab(sight @ linear(other))) > 10, (one, other)


@pytest.mark.parametrize(("colours", "paper"), [(LIGHT, "#ffffff"), (DARK, "#13171c")])
def test_lines_can_be_seen_on_their_paper(colours: tuple[str, ...], paper: str) -> None:
    background = TO_XYZ[1] @ linear(paper)
    for colour in colours:
        bright, dark = sorted((TO_XYZ[1] @ linear(colour), background), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 3, colour


def test_thirty_curves_differ() -> None:
    assert len({(colour_number(n), dash_number(n)) for n in range(30)}) == 30
    assert len(set(DASHES)) == len(DASHES)


def test_marks_differ_and_lie_around_their_point() -> None:
    outlines = [mark_outline(n, 4) for n in range(len(MARKS))]
    assert len({tuple(np.round(outline, 2).flat) for outline in map(np.array, outlines)}) == len(MARKS)
    for outline in outlines:
        assert np.allclose(np.mean(outline, axis=0), 0)
        assert np.linalg.norm(outline, axis=1).max() == pytest.approx(4)
