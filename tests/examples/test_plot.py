"""``examples/plot.py`` draws what was found."""

import sys
from pathlib import Path

import numpy as np
import pytest

from stale_runtime import EncodedPrompts, Localizer
from tests.examples.example import VIDEO, load, run

pytest.importorskip("matplotlib", reason="no matplotlib; install it with: pip install matplotlib")


def test_it_draws_a_picture_of_a_video(tmp_path: Path) -> None:
    done = run("plot", VIDEO, "-o", "car.png", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "car.png").read_bytes().startswith(b"\x89PNG")


def test_it_shows_bars_and_curves_of_the_same_classes(localizer: Localizer, prompts: EncodedPrompts) -> None:
    plot = load("plot")
    video = localizer.detect_video(VIDEO, prompts, evidence=True)
    above, below = plot.draw_video(video, localizer.reading_score).axes
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in above.patches]
    np.testing.assert_allclose(bars, [row[1:3] for row in video.min_score(localizer.reading_score)])
    shown = video.min_score(localizer.reading_score).detections
    assert [row.label for row in shown] == ["Washing a car"] * 2
    labels = [tick.get_text() for tick in above.get_yticklabels()]
    assert labels == [f"Washing a car  {row.score:.2f}" for row in shown]
    assert video.evidence is not None
    assert video.evidence.class_scores is not None
    assert [line.get_label() for line in below.lines] == list(video.evidence.class_scores.labels)
    np.testing.assert_array_equal(below.lines[0].get_ydata(), video.evidence.class_scores.scores[0])


def test_names_are_no_formulas_and_nothing_found_is_no_error(localizer: Localizer, tmp_path: Path) -> None:
    plot = load("plot")
    features = np.random.default_rng(0).normal(size=(30, localizer.bundle.manifest.channels)).astype(np.float32)
    video = localizer.detect(features, [r"$\frac$", "polo"], evidence=True, video="$x$")
    plot.draw_video(video, 0.0).savefig(tmp_path / "formulas.png")
    plot.draw_video(video, 2.0).savefig(tmp_path / "nothing.png")


def test_what_is_wrong_takes_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["plot.py", "nowhere.mp4", "-o", "car.png"])
    with pytest.raises(SystemExit) as ended:
        load("plot").main()
    assert str(ended.value).startswith("plot.py: error: nowhere.mp4: ")
    assert len(str(ended.value).splitlines()) == 1
