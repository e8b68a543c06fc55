"""The README's plot: ``python -m tests.speed_plot`` draws the thesis's table of docs/benchmarks.md."""

import re
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

DOCS = Path(__file__).parents[1] / "docs"
PICTURE = DOCS / "pictures" / "speed.png"
COLUMNS = {1: ("the original, int8", "#1a5fb4"), 2: ("ort-fp32", "#a347ba"), 3: ("ort-int8", "#c64600")}
"""Column of the table -> label and colour of its line."""


def main() -> int:
    """Write the picture."""
    text = (DOCS / "benchmarks.md").read_text()
    rows = [row for row in re.findall(r"^\| +(\d+) \|(.*)\|$", text, re.MULTILINE) if "±" in row[1]]
    lengths = [int(T) for T, _ in rows]
    figure, axes = plt.subplots(figsize=(7.5, 3.6), dpi=110, layout="constrained")
    for column, (label, colour) in COLUMNS.items():
        seconds = [float(cells.split("|")[column - 1].split("±")[0]) for _, cells in rows]
        axes.plot(lengths, [1000 * second for second in seconds], marker="o", markersize=3.5, color=colour, label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(0, None)
    axes.set_xlabel("T, snippets that the video is resampled to")
    axes.set_ylabel("forward pass, ms (logarithmic)")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(PICTURE, metadata={"Software": None})
    print(PICTURE.name, f"{PICTURE.stat().st_size:,} bytes", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
