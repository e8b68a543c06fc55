"""Draws what was found in a video, and how sure the network was of each class over time, into a PNG file.

It needs ``pip install matplotlib``. Start it with ``python examples/plot.py examples/washing_a_car.mp4 -o car.png``;
with your own bundle and classes, add ``--bundle FOLDER --prompts FILE``.
"""

import argparse
import sys
from pathlib import Path

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ModuleNotFoundError:
    sys.exit(f"plot.py: error: needs matplotlib; install it with: {sys.executable} -m pip install matplotlib")

from stale_runtime import ClassScores, Detection, Localizer, StaleError, VideoDetections, is_video, read_prompts

HERE = Path(__file__).parent
MOST_BARS = 15


def main() -> None:
    """Detect, and draw."""
    parser = argparse.ArgumentParser(description="Draw the detections and the class scores of a video.")
    parser.add_argument("video", type=Path, help="a video, or a .npy file of its features")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PNG", help="the picture to write")
    parser.add_argument("--bundle", type=Path, default=HERE / "bundle", metavar="FOLDER")
    parser.add_argument("--prompts", type=Path, default=HERE / "classes.txt", metavar="FILE")
    given = parser.parse_args()
    try:
        localizer = Localizer.open(given.bundle)
        detect = localizer.detect_video if is_video(given.video) else localizer.detect_file
        found = detect(given.video, read_prompts(given.prompts), evidence=True)
        draw_video(found, localizer.reading_score).savefig(given.output, format="png", dpi=150)
    except (StaleError, OSError) as problem:
        sys.exit(f"plot.py: error: {problem}")


def draw_video(video: VideoDetections, min_score: float) -> Figure:
    """Detections above, curves below, over the same time.

    Args:
        video: detections with evidence.
        min_score: detections that score less are left out.
    """
    figure = Figure(figsize=(10, 6), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    rows = video.min_score(min_score).top(MOST_BARS).detections
    draw_detections(above, rows)
    above.set_title(f"{plain(video.video)}: {len(rows)} detections with a score of {min_score:.2f} or more")
    if video.evidence is not None and video.evidence.class_scores is not None:
        draw_curves(below, video.evidence.class_scores)
    below.set(xlim=(0, video.duration_s or 1), xlabel=f"time ({video.unit})", ylim=(0, 1.02), ylabel="class score")
    return figure


def draw_detections(axes: Axes, rows: tuple[Detection, ...]) -> None:
    """A bar for each detection, the best one on top, in the colour of its class."""
    colours = {label: f"C{n}" for n, label in enumerate(dict.fromkeys(row.label for row in rows))}
    for n, row in enumerate(rows):
        axes.barh(n, row.end - row.start, left=row.start, color=colours[row.label])
    axes.set_yticks(range(len(rows)), [f"{plain(row.label)}  {row.score:.2f}" for row in rows])
    axes.invert_yaxis()


def draw_curves(axes: Axes, scores: ClassScores) -> None:
    """A curve for each class, in the same colours, because both begin with the class of the best detection."""
    for label, curve in zip(scores.labels, scores.scores, strict=True):
        axes.plot(scores.times, curve, label=plain(label))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def plain(text: str) -> str:
    """Text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")


if __name__ == "__main__":
    main()
