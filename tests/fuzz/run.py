"""``python -m tests.fuzz.run``: fuzz the readers for hours, each in a child process, and print a table."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
from tabulate import tabulate

from stale_runtime.system.text import one_line
from stale_runtime.terminal import console
from tests.fuzz.child import INPUT, LOG, TALLY, Plan, read_last_input
from tests.fuzz.targets import TARGETS, find_target
from tests.fuzz.watch import MOST_BYTES, SLOWEST_S, Tally, Watch, keep, limit_memory

NAME = "python -m tests.fuzz.run"
FOUND = 5
ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "fuzz"
HEADERS = ("target", "inputs", "results", "refused", "slowest ms", "peak MB", "inputs/s", "findings")
_STALLED_S = 60.0
_STARTED_S = 300.0
_NOTE_S = 30.0
_PATH = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(epilog="Exit codes: 0 nothing found, 2 usage, 5 findings.")
@click.argument("names", metavar="TARGET|all ...", nargs=-1, required=True, type=click.Choice([*TARGETS, "all"]))
@click.option("--inputs", type=click.IntRange(1), default=200_000, show_default=True, help="For each target.")
@click.option("--seconds", type=click.FloatRange(1), default=1e9, help="At most, for each target; default: any.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Targets at the same time.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 2), default=0, show_default=True, help="For the random changes.")
@click.option("--engine", type=click.Choice(["auto", "atheris", "seeded"]), default="auto", help="See above.")
@click.option("--replay", type=_PATH, help="Read this file once, and say what happened.")
def fuzz(
    names: Sequence[str], inputs: int, seconds: float, jobs: int, seed: int, engine: str, replay: Path | None
) -> int:
    """Fuzz the readers of untrusted files.

    Every input must end in a result or in one of our errors, within 2 s and 1 GB. Anything else is a finding, which
    is kept under build/fuzz and listed with the command that replays it. Where atheris is installed
    (pip install -e '.[fuzz]'), coverage guides the changes; otherwise they are random.
    """
    chosen = list(TARGETS) if "all" in names else list(dict.fromkeys(names))
    if replay is not None:
        if len(chosen) != 1:
            raise click.UsageError("--replay: expected exactly one TARGET, the one that reads the file")
        return _replay(chosen[0], replay.read_bytes())
    plan = Plan(
        target="", engine=_engine(engine), inputs=inputs, seconds=seconds, seed=seed, work="", corpus="", findings=""
    )
    with ThreadPoolExecutor(jobs) as pool:
        rows = list(pool.map(partial(fuzz_target, plan, kept=KEPT), chosen))
    table = [_row(name, *row) for name, row in zip(chosen, rows, strict=True)]
    click.echo(tabulate(table, HEADERS, disable_numparse=True))
    for name, (tally, _) in zip(chosen, rows, strict=True):
        for problem, path in tally.findings.items():
            click.echo(f"{name}: {one_line(problem)}\n  {NAME} {name} --replay {os.path.relpath(path)}")
    return FOUND if any(tally.findings for tally, _ in rows) else 0


def _engine(wanted: str) -> str:
    installed = importlib.util.find_spec("atheris") is not None
    if wanted == "atheris" and not installed:
        raise click.UsageError("--engine atheris: it is not installed; pip install -e '.[fuzz]' (Linux on x86-64)")
    if wanted == "auto" and not installed:
        console.note(NAME, "atheris is not installed, so the changes are random; pip install -e '.[fuzz]'")
    return "atheris" if installed and wanted != "seeded" else "seeded"


def fuzz_target(plan: Plan, name: str, *, kept: Path) -> tuple[Tally, float]:
    """Fuzz one reader in a child process.

    Args:
        plan: everything but the target and the folders.
        name: see ``find_target``.
        kept: folder for the corpus and for findings.

    Returns:
        What the reader did, and the seconds that it took.
    """
    with _temporary_folder() as work:
        findings = kept / "findings" / name
        plan = replace(
            plan, target=name, work=str(work), corpus=str(kept / "corpus" / name), findings=str(findings.absolute())
        )
        started = time.monotonic()
        with open(work / LOG, "wb") as log:
            command = [sys.executable, "-m", "tests.fuzz.child", plan.to_json()]
            process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            ended = _wait_for(process, work, name)
        finally:
            process.kill()
            process.wait()
        tally, done = _read_tally(work)
        if not done:
            problem = ended or f"the process ended with code {process.returncode}: {_last_line(work)}"
            data = read_last_input(work) if (work / INPUT).exists() else b""
            keep(data, problem, tally, findings)
    return tally, time.monotonic() - started


def _wait_for(process: "subprocess.Popen[bytes]", work: Path, name: str) -> str | None:
    """Wait for a child; return why it has to be killed, or None if it ended."""
    seen, moved, noted = -1, time.monotonic(), time.monotonic()
    while True:
        try:
            process.wait(1.0)
            return None
        except subprocess.TimeoutExpired:
            now = time.monotonic()
        tally, _ = _read_tally(work)
        if tally.inputs != seen:
            seen, moved = tally.inputs, now
        patience = _STALLED_S if seen > 0 else _STARTED_S
        if now - moved > patience:
            return f"no end within {patience:.0f} s"
        if now - noted > _NOTE_S:
            noted = now
            console.note(NAME, f"{name}: {tally.inputs:,} inputs, {len(tally.findings)} findings")


def _read_tally(work: Path) -> tuple[Tally, bool]:
    """A child's last tally, and whether it was done by then."""
    try:
        content = json.loads((work / TALLY).read_text())
    except FileNotFoundError:
        return Tally(), False
    done = content.pop("done")
    return Tally(**content), done


def _last_line(work: Path) -> str:
    """The last line that a child wrote to its log."""
    lines = (work / LOG).read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it printed nothing"


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A temporary folder, in memory where possible, since disks are slow."""
    memory = Path("/dev/shm")
    place = tempfile.mkdtemp(prefix="stale-fuzz-", dir=memory if os.access(memory, os.W_OK) else None)
    try:
        yield Path(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _replay(name: str, data: bytes) -> int:
    with _temporary_folder() as work:
        target = find_target(name)(work)
        limit_memory()
        watch = Watch(target.run, KEPT / "findings" / name)
        problem = watch.feed(data)
    seconds = watch.tally.slowest_ms / 1000
    limits = f"limits {SLOWEST_S} s, {MOST_BYTES:,} bytes"
    click.echo(f"{name}: {problem or ('refused' if watch.tally.refused else 'read')} in {seconds:.3f} s ({limits})")
    return FOUND if problem else 0


def _row(name: str, tally: Tally, seconds: float) -> tuple[str, ...]:
    return (
        name,
        f"{tally.inputs:,}",
        f"{tally.results:,}",
        f"{tally.refused:,}",
        f"{tally.slowest_ms:.0f}",
        f"{tally.peak_mb:.0f}",
        f"{tally.inputs / max(seconds, 1e-9):.0f}",
        str(len(tally.findings)),
    )


if __name__ == "__main__":
    console.run_command(fuzz, NAME)
