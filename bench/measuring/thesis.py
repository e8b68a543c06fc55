"""The measurements of the thesis that this toolkit grew out of, as a request.

Source: Wang, bachelor's thesis, TU Delft 2023: forward seconds of the dynamically quantized original on one CPU, and
    time, memory and utilisation of the original on a GPU, over lengths from 100 to 3000.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stale_bench.measuring.plan import BenchmarkRequest

LENGTHS = (100, *range(200, 3001, 200))
ORIGINAL = "upstream-int8"
ORIGINAL_ON_GPU = "upstream-fp32"
OURS = ("ort-fp32", "ort-int8", "ort-int8-dynamic")
ROUNDS = 3
"""Forward passes that a process times after its warm-up."""


@dataclass(frozen=True, kw_only=True)
class ThesisRequest:
    """Which part of the thesis to repeat, and how thoroughly."""

    device: Literal["cpu", "cuda"] = "cpu"
    seeds: int = 5
    """Processes for each backend and length; each draws other weights and features."""
    lengths: tuple[int, ...] = ()
    """T in snippets; empty for those of the thesis."""
    bundle: Path | None = None
    """None to look where ``find_bundle`` does."""
    threads: int = 1
    budget_s: float | None = None
    """Seconds for everything; None for as long as it takes."""

    def to_benchmark(self) -> BenchmarkRequest:
        """The request as a benchmark: of the original and, on a CPU, of this project's backends that can run here."""
        on_gpu = self.device == "cuda"
        return BenchmarkRequest(
            backends=(ORIGINAL_ON_GPU if on_gpu else ORIGINAL,),
            where_possible=() if on_gpu else OURS,
            device=self.device,
            lengths=self.lengths or LENGTHS,
            bundle=self.bundle,
            threads=self.threads,
            budget_s=self.budget_s,
            row_budget_s=None,
            launches=self.seeds,
            rounds=(ROUNDS, ROUNDS),
            cold_prompts=False,
        )
