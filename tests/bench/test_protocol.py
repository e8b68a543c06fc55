import subprocess
import sys
from pathlib import Path

from stale_bench.protocol import Job, to_line
from tests.bench.helpers import make_job


def test_a_job_is_a_line_and_back(bundle: Path, tmp_path: Path) -> None:
    job = make_job(bundle, tmp_path, classes=("a\nb", "ß"), cpus=(0, 3), features="f.npy")
    assert job.to_line().count("\n") == 1
    assert Job.from_line(job.to_line()) == job


def test_a_message_is_a_line() -> None:
    assert to_line({"error": "two\nlines"}).count("\n") == 1


def test_nothing_heavy_is_imported_before_the_clock_starts() -> None:
    code = "import stale_bench.measuring.worker, sys; "
    code += "print([n for n in ('numpy', 'stale_runtime', 'click') if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
