import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stale_runtime.system import peak_memory
from stale_runtime.system.peak_memory import peak_rss_mb


def test_a_block_of_known_size_raises_the_peak_which_stays() -> None:
    code = (
        "from stale_runtime.system.peak_memory import peak_rss_mb\nimport numpy as np\nbefore = peak_rss_mb()\n"
        "block = np.ones(8_000_000)\nduring = peak_rss_mb()\ndel block\nprint(during - before, peak_rss_mb() - before)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    during, after = map(float, ran.stdout.split())
    assert during == pytest.approx(64, rel=0.05)
    assert after == pytest.approx(64, rel=0.05)  # the kernel counts in batches of pages


def test_what_the_parent_holds_does_not_count() -> None:
    block = np.ones(25_000_000)
    code = "from stale_runtime.system.peak_memory import peak_rss_mb; print(peak_rss_mb())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(ran.stdout) < block.nbytes / 1e6


def test_a_system_without_proc_has_a_figure_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak_memory, "_STATUS", Path("/nowhere/status"))
    assert peak_rss_mb() > 10
