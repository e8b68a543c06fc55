"""The thesis's table: ``stale-bench thesis`` on the device, with a bundle that is made for it."""

import signal
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import torch

from stale_bench.reporting.benchmark_results import Results, Row, read_benchmark_results
from stale_bench.reporting.thesis_tables import launch_means
from stale_export import export_bundle
from stale_model import StaleConfig, TextTower, TrainedStale
from stale_model.checkpoints.clip import ClipParts, read_clip_parts
from stale_model.demo.demo_tokenizer import make_tokenizer
from stale_model.demo.demo_towers import make_text_config
from stale_model.network.stale import Stale
from stale_runtime.errors import StaleError
from stale_runtime.inference.text_encoder import PROMPT_TEMPLATE
from stale_runtime.inputs.prompts import Prompts
from tests.gpu.demo_data import CHANNELS
from tests.gpu.gpu_report import Check, Findings, Table
from tests.gpu.gpu_request import GpuRequest

VERBS: tuple[str, ...] = ("washing", "painting", "carrying", "repairing", "lifting", "cleaning", "building")
VERBS += ("moving", "drawing", "selling")
OBJECTS: tuple[str, ...] = ("car", "window", "dog", "bicycle", "fence", "boat", "table", "door", "chair", "wall")
OBJECTS += ("horse", "lamp", "box", "tent", "kite", "drum", "ball", "rope", "sofa", "bench")
LONGEST = "washing a car beside a fence"
"""Six words, so that the longest prompt has 12 tokens, as that of ActivityNet's 200 classes."""
LEAST_S = 60.0
"""Even if no time is left, the benchmark gets this."""
_RESERVE_S = 15.0
_END_S = 30.0


def check_thesis(request: GpuRequest) -> Findings:
    """Run ``stale-bench thesis`` for as long as there is time.

    Raises:
        RuntimeError: it failed, or measured nothing.
    """
    bundle, names = write_thesis_bundle(request)
    results = run_benchmark(request, bundle)
    lengths = list(dict.fromkeys(row.length for row in results.rows))
    unmeasured = [row for row in results.rows if row.error is not None or "forward" not in row.stages]
    reasons = "".join(f" {row.backend} at T={row.length}: {row.error or 'no time was left'}." for row in unmeasured)
    seeds = max((len(row.stages["forward"].per_launch) for row in results.rows if "forward" in row.stages), default=0)
    text = (
        f"`stale-bench thesis --device {request.device} --lengths {' '.join(request.sizes.thesis_lengths)}`: the "
        f"original with its text tower of the size of CLIP ViT-B/32, one video, {names}. Mean ± standard deviation of "
        f"a forward pass over seeds, of which there are at most {seeds}, one process each; peak memory, and the GPU's "
        f"utilisation while one pass follows the other.{reasons}"
    )
    return Findings(
        text=text,
        table=_table(results),
        checks=(Check.at_most(0, f"rows of {len(lengths)} lengths that could not be measured", len(unmeasured)),),
    )


def write_thesis_bundle(request: GpuRequest) -> tuple[Path, str]:
    """Export a network with random weights, and say with which prompts.

    The benchmark draws the original's weights itself; of the bundle it needs the tokenizer and the prompts.
    """
    clip, names, which = _prompts(request)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trained = TrainedStale(
            network=Stale(StaleConfig(temporal_scale=request.sizes.length)).eval(),
            tower=TextTower(clip.text_config).eval(),
            clip=clip,
            classes=names,
            format="stale-edge",
            sha256="0" * 64,
            size=0,
        )
    folder = request.workspace / "bundle"
    export_bundle(trained, Prompts.of(names), folder, say=lambda _: None)
    return folder, which


def made_up_names(count: int) -> tuple[str, ...]:
    """Class names whose prompts have up to 12 tokens."""
    pairs = [f"{verb} a {thing}" for verb, thing in product(VERBS, OBJECTS)]
    return (LONGEST, *pairs[: count - 1])


def run_benchmark(request: GpuRequest, bundle: Path) -> Results:
    """Run the command in a child process; when the time is over, interrupt it and take what was measured.

    Raises:
        RuntimeError: it failed.
    """
    output = request.workspace / "thesis.json"
    budget_s = max(LEAST_S, request.left_s - _RESERVE_S)
    command = [
        *(sys.executable, "-m", "stale_bench", "thesis", "--device", request.device, "--bundle", str(bundle)),
        *("--lengths", *request.sizes.thesis_lengths, "--seeds", str(request.sizes.seeds)),
        *("--budget", f"{budget_s:.0f}", "--format", "csv", "-o", str(output)),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = process.communicate(timeout=budget_s + _RESERVE_S)[1]
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                said = process.communicate(timeout=_END_S)[1]
            except subprocess.TimeoutExpired:
                process.kill()
                said = process.communicate()[1]
    try:
        return read_benchmark_results(output)
    except StaleError as problem:
        last = (said.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"stale-bench thesis ended with {process.returncode}: {last}") from problem


def _prompts(request: GpuRequest) -> tuple[ClipParts, tuple[str, ...], str]:
    """Tokenizer, class names, and what they are."""
    count = request.sizes.classes
    if request.reference is not None:
        names = tuple((request.reference / "classes.txt").read_text().splitlines()[:count])
        return read_clip_parts(str(request.reference / "clip")), names, f"{len(names)} prompts of the reference"
    names = made_up_names(count)
    tokenizer = make_tokenizer(
        sorted({word for name in names for word in PROMPT_TEMPLATE.format(name).lower().split()})
    )
    config = make_text_config(tokenizer, channels=CHANNELS)
    clip = ClipParts(name="made up", text_config=config, tokenizer_json=tokenizer.to_str().encode())
    return clip, names, f"{len(names)} made-up prompts of up to 12 tokens"


def _table(results: Results) -> Table:
    headers = ("backend", "T", "forward s", "± s", "memory MB", "GPU utilisation", "GMACs")
    return Table(
        headers=headers,
        formats=("", ".0f", ".4f", ".4f", ".0f", ".0%", ".1f"),
        rows=tuple(_row(row) for row in results.rows if "forward" in row.stages),
    )


def _row(row: Row) -> tuple[float | str | None, ...]:
    means = launch_means(row)
    gpu = row.gpu or {}
    return (
        *(row.backend, row.length, float(np.mean(means)), float(np.std(means, ddof=1)) if len(means) > 1 else None),
        *(gpu.get("memory_mb", row.peak_rss_mb), gpu.get("utilisation"), row.gmacs),
    )
