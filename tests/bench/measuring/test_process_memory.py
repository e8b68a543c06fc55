import subprocess
import sys
from pathlib import Path

import pytest

from stale_bench.measuring import process_memory as memory
from stale_bench.measuring.process_memory import open_descriptors, rss_mb


def test_what_is_held_now_falls_again_and_the_peak_does_not() -> None:
    code = (
        "from stale_bench.measuring.process_memory import rss_mb\nimport numpy as np\nbefore = rss_mb()\n"
        "block = np.ones(8_000_000)\nduring = rss_mb()\ndel block\nprint(during - before, rss_mb() - before)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    during, after = map(float, ran.stdout.split())
    assert during == pytest.approx(64, rel=0.05)
    assert after < 5


def test_open_files_are_counted(tmp_path: Path) -> None:
    before = open_descriptors()
    with (tmp_path / "file").open("w"):
        assert open_descriptors() == before + 1
    assert open_descriptors() == before


def test_a_system_without_proc_does_not_say_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_STATUS", Path("/nowhere/status"))
    with pytest.raises(OSError, match="/nowhere/status does not say what memory this process holds"):
        rss_mb()
