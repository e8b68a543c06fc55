import subprocess
import sys
from pathlib import Path

import pytest

from stale_bench.protocol import Detect, Facts, Failure, Found, Message, Samples, TakeSamples, from_line, to_line
from tests.bench.helpers import make_job


def test_a_job_is_a_line_and_back(bundle: Path, tmp_path: Path) -> None:
    job = make_job(bundle, tmp_path, classes=("a\nb", "ß"), cpus=(0, 3), features="f.npy")
    assert to_line(job).count("\n") == 1
    assert from_line(to_line(job)) == job


@pytest.mark.parametrize(
    "message",
    [
        Failure(reason="two\nlines"),
        TakeSamples(repeats=3),
        Samples(stages_ms={"forward": (1.5, 2.0), "decode": ()}),
        Facts(file_mb=None, gmacs=0.1, int8_share=1 / 3, gpu={"memory_mb": 3.0}),
        Detect(path="/a b/ü.npy", duration_s=60.0),
        Found(detections=(("long jump", 1.0, 2.5, 0.3), ("polo", 0.0, 1e-300, 1.0))),
    ],
)
def test_a_message_is_a_line_and_back(message: Message) -> None:
    assert to_line(message).count("\n") == 1
    assert from_line(to_line(message)) == message


def test_nothing_heavy_is_imported_before_the_clock_starts() -> None:
    code = "import stale_bench.measuring.worker, stale_bench.measuring.engine_worker, sys; "
    code += "print([n for n in ('numpy', 'stale_runtime', 'click', 'psutil') if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
