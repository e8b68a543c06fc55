"""``examples/detect.py`` finds what is marked in its video."""

import re
from pathlib import Path

from stale_runtime import read_ground_truth
from tests.examples.example import EXAMPLES, VIDEO, run


def test_it_prints_what_is_marked(tmp_path: Path) -> None:
    done = run("detect", folder=tmp_path)
    assert done.returncode == 0, done.stdout
    found = re.findall(r"^ *([\d.]+) s to *([\d.]+) s  Washing a car  \(score 0\.\d\d\)$", done.stdout, re.MULTILINE)
    assert len(done.stdout.splitlines()) == len(found)
    marked = read_ground_truth(EXAMPLES / "truth.json").videos[VIDEO.stem].annotations
    assert len(found) == len(marked)
    for (start, end), row in zip(sorted((float(a), float(b)) for a, b in found), marked, strict=True):
        assert abs(start - row.start_s) < 2
        assert abs(end - row.end_s) < 2
