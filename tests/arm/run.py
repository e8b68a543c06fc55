"""``python -m tests.arm.run``: replay bundles and compare detections on emulated processors."""

import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import click
import tabulate

from stale_runtime.evaluation.results import read_results
from stale_runtime.system.cpus import available_threads
from stale_runtime.system.text import one_line
from stale_runtime.terminal import console
from tests.arm.agreement import Agreement, compare
from tests.arm.emulation import Emulation, FetchError
from tests.arm.processors import PROCESSORS, Processor
from tests.arm.subjects import ROOT, Subject, drawn_subject, example_subject

NAME = "make arm"
FOLDER = ROOT / "build" / "arm"
PACKAGES = ROOT / "build" / "types"
"""Where ``stale_runtime`` is a link to ``runtime/``."""
HERE = "x86_64"
LONGEST_S = 900
"""Seconds for one command."""
HEADERS = ("processor", "bundle", "self-test", "detections", "seconds")
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False, resolve_path=True)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one processor did with one bundle."""

    processor: Processor
    subject: Subject
    problems: tuple[str, ...]
    """Why it failed; empty if it passed."""
    agreements: tuple[Agreement, ...] = field(default=())
    """Of each backend's detections with this machine's."""
    seconds: float = 0.0

    @property
    def row(self) -> tuple[str, str, str, str, float]:
        """A row of the table that is printed."""
        worst = max(self.agreements, key=lambda found: (not found.is_close, found.difference), default=None)
        self_test = "FAILED" if any(problem.startswith("self-test") for problem in self.problems) else "passed"
        return (self.processor.cpu, self.subject.name, self_test, str(worst or "not compared"), self.seconds)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Runs ``stale-run`` on this machine or on an emulated processor, and keeps what it found."""

    emulation: Emulation

    def detections_file(self, subject: Subject, backend: str, processor: Processor | None) -> Path:
        """Where the detections of a backend are."""
        who = processor.cpu if processor is not None else "this machine"
        return self.emulation.folder / "detections" / f"{subject.name}, {backend}, {who}.json"

    def self_test(self, subject: Subject, processor: Processor) -> str | None:
        """Replay a bundle; what failed, or None."""
        done = self._run(["--self-test", "--bundle", str(subject.bundle)], processor)
        failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
        return None if done.returncode == 0 else one_line(f"self-test: {'; '.join(failed) or _last(done)}")

    def detect(self, subject: Subject, backend: str, processor: Processor | None) -> str | None:
        """Write the detections of a backend; what went wrong, or None."""
        output = self.detections_file(subject, backend, processor)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.unlink(missing_ok=True)
        what = ["--prompts", str(subject.prompts), "--bundle", str(subject.bundle), "--backend", backend]
        how = ["--format", "json", "--no-cache", "-o", str(output)]
        done = self._run([str(subject.features), *what, *how], processor)
        return None if done.returncode == 0 else one_line(f"{backend}: {_last(done)}")

    def compare(self, subject: Subject, backend: str, processor: Processor) -> Agreement:
        """Compare the detections of a backend with this machine's."""
        expected, found = (
            read_results(self.detections_file(subject, backend, who)).videos for who in (None, processor)
        )
        return compare(expected, found)

    def _run(self, arguments: Sequence[str], processor: Processor | None) -> "subprocess.CompletedProcess[str]":
        native = [sys.executable, "-m", "stale_runtime", *arguments]
        command = native if processor is None else self.emulation.command(processor, arguments)
        environment = self.emulation.environment(PACKAGES, processor)
        try:
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=LONGEST_S, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 1, "", f"took more than {LONGEST_S} s")


@click.command(epilog="Exit codes: 0 all agree, 1 something failed or cannot be fetched, 2 usage.")
@click.option("--processor", "cpus", multiple=True, type=click.Choice(list(PROCESSORS)), help="Only this; repeatable.")
@click.option("--mirror", metavar="URL", help="Debian mirror to fetch from.  [default: the one that apt uses]")
@click.option("--bundle", type=_FOLDER, help="Run this bundle instead of the example and random weights.")
@click.option("--features", type=_FOLDER, help="With --bundle: feature files to find actions in.")
@click.option("--prompts", type=_FILE, help="With --bundle: class names to look for.")
def check_processors(cpus: tuple[str, ...], mirror: str | None, **own: Path | None) -> int:
    """Replay bundles on emulated processors, and compare what they find with this machine."""
    if platform.machine() != HERE:
        raise click.UsageError(f"this machine is {platform.machine()}, expected {HERE}, with which Arm is compared")
    machine = Machine(emulation=Emulation(folder=FOLDER, constraints=ROOT / "constraints.txt", mirror=mirror))
    console.note(NAME, f"fetching qemu, Python and wheels into {FOLDER.relative_to(ROOT)}, unless they are there")
    machine.emulation.fetch()
    subjects = _own_subject(**own) or [example_subject(FOLDER), drawn_subject(FOLDER)]
    trials = run_trials(machine, subjects, [PROCESSORS[cpu] for cpu in cpus or PROCESSORS])
    console.echo(tabulate.tabulate([trial.row for trial in trials], HEADERS, tablefmt="github", floatfmt=".0f"))
    problems = [f"{trial.processor.cpu}: {trial.subject.name}: {text}" for trial in trials for text in trial.problems]
    for problem in problems:
        console.note(NAME, f"error: {problem}")
    return 1 if problems else 0


def run_trials(machine: Machine, subjects: Sequence[Subject], processors: Sequence[Processor]) -> list[Trial]:
    """Run every bundle on this machine, and then on every processor, as many at a time as there are CPUs here.

    Raises:
        FetchError: this machine itself cannot run one.
    """
    for subject in subjects:
        for backend in subject.backends:
            if problem := machine.detect(subject, backend, None):
                raise FetchError(f"{subject.name}: this machine cannot run it: {problem}")
    with ThreadPoolExecutor(available_threads()) as pool:
        trials = [pool.submit(run_trial, machine, subject, who) for who in processors for subject in subjects]
        return [trial.result() for trial in trials]


def run_trial(machine: Machine, subject: Subject, processor: Processor) -> Trial:
    """Replay one bundle on one processor, and compare the detections of its backends."""
    started = time.monotonic()
    problems = [problem] if (problem := machine.self_test(subject, processor)) else []
    agreements = []
    for backend in subject.backends:
        if processor.rounds_by_rows and backend in subject.dynamic_backends:
            continue
        if problem := machine.detect(subject, backend, processor):
            problems.append(problem)
            continue
        agreements.append(machine.compare(subject, backend, processor))
        if not agreements[-1].is_close:
            problems.append(f"{backend}: {agreements[-1]}")
    seconds = time.monotonic() - started
    console.note(NAME, f"{processor.cpu} ({processor.what}): {subject.name}: {seconds:.0f} s")
    return Trial(
        processor=processor,
        subject=subject,
        problems=tuple(problems),
        agreements=tuple(agreements),
        seconds=seconds,
    )


def _own_subject(bundle: Path | None, features: Path | None, prompts: Path | None) -> list[Subject]:
    if bundle is None and features is None and prompts is None:
        return []
    if bundle is None or features is None or prompts is None:
        raise click.UsageError("--bundle, --features and --prompts: give all of them or none")
    return [Subject(name=bundle.name, bundle=bundle, features=features, prompts=prompts)]


def _last(done: "subprocess.CompletedProcess[str]") -> str:
    return (done.stderr.splitlines() or [f"exit code {done.returncode}"])[-1][:300]


def main() -> None:
    """Run ``python -m tests.arm.run``."""
    console.run_command(check_processors, NAME)


if __name__ == "__main__":
    main()
