"""The measurements of the thesis that this toolkit grew out of, as a request.

Source: Wang, bachelor's thesis, TU Delft 2023, and its repository (yunhanwang1105/Efficient-TAL-vision-language-
    modeling). On a CPU, ``STALE_cpu/stale_quantized_inference.py`` prints forward seconds of the dynamically quantized
    original: one video, lengths ``[100]`` and ``arange(200, 3200, 200)``, five seeds (``rand_seeds``). On a GPU,
    ``STALE_closed/stale_compute_inference.py`` prints forward seconds, memory and multiplications of the original at
    ``arange(200, 3200, 200)``, once; no file of the repository says how utilisation was measured.

Done differently here:

- The thesis times the first pass of each network with ``time.time`` (CUDA events on a GPU). Here a warm-up comes first,
  and then ``ROUNDS`` passes in each process.
- Each seed is a process of its own; in the thesis one process measures all lengths and seeds.
- The thesis gives features from ``torch.rand`` (zeros on a GPU), which take as long as ours.
- The thesis leaves the number of threads to PyTorch: ``STALE_cpu/compute_inference.sh`` asks for eight cores. Here a
  process stays on one core, like this project's own backends, unless ``--threads`` says otherwise. More cores may
  help the original more, whose matrices are larger.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stale_bench.measuring.plan import BenchmarkRequest

LENGTHS = (100, *range(200, 3001, 200))
"""``vid_lengths`` in ``STALE_cpu/stale_quantized_inference.py``."""
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
    """Processes for each backend and length; each draws other weights and features. The thesis has five."""
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
            peak=False,
        )
