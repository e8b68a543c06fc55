"""``python -m tests.gpu.run``: check and measure on a GPU, section by section, and write a report.

Each section imports what it needs itself, so that a missing library costs only the sections that need it.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import click

from stale_runtime.errors import StaleError
from stale_runtime.system.files import write_whole
from stale_runtime.system.text import one_line
from stale_runtime.terminal import console
from tests.gpu.card import describe_machine
from tests.gpu.gpu_page import PAGE, draw_section, write_page
from tests.gpu.gpu_report import FAILED, NOT_MEASURED, PASSED, Findings, GpuReport, SectionReport
from tests.gpu.gpu_request import DEVICES, FULL, SMALL, GpuRequest

NAME = "make gpu"
SECTIONS: Mapping[str, str] = {
    "Environment": "tests.gpu.card:describe_card",
    "Forward pass": "tests.gpu.forward_check:check_forward",
    "Loss and gradient": "tests.gpu.gradient_check:check_gradients",
    "Training": "tests.gpu.training_check:check_training",
    "One process of DistributedDataParallel": "tests.gpu.distributed_check:check_distributed",
    "The thesis's table": "tests.gpu.thesis_check:check_thesis",
}
"""``module:function`` of each section, in order; the last one takes the time that is left."""
SIZES = {"full": FULL, "small": SMALL}
OUTPUT = Path("build/gpu.json")
OWN = ("stale_", "tests")
_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command(epilog="Exit codes: 0 all that could be checked is right, 2 usage, 1 a section failed.")
@click.option(
    "--device", type=click.Choice(DEVICES), default="cuda", show_default=True, help="cpu stands in for a GPU."
)
@click.option(
    "--size", type=click.Choice(list(SIZES)), help="How much to compute.  [default: full on cuda, small on cpu]"
)
@click.option("--section", "names", multiple=True, type=click.Choice(list(SECTIONS)), help="Only this one; repeatable.")
@click.option(
    "--reference",
    type=_FOLDER,
    help="Folder with clip/ and classes.txt, and perhaps best.pth and features/.  [default: all is made up]",
)
@click.option("--limit", "limit_s", type=click.FloatRange(60), default=450, show_default=True, help="Seconds for all.")
@click.option("-o", "--output", type=_FILE, default=OUTPUT, show_default=True, help="JSON file for the report.")
@click.option("--render", type=_FILE, help="Measure nothing: write docs/gpu.json and docs/gpu.md from this report.")
def check_gpu(
    device: str,
    size: str | None,
    names: tuple[str, ...],
    reference: Path | None,
    limit_s: float,
    output: Path,
    render: Path | None,
) -> int:
    """Check and measure what needs a GPU.

    Every section that fails is reported, and the others still run. The report is written after each section.
    """
    if render is not None:
        write_page(render)
        console.echo(f"wrote {PAGE}")
        return 0
    sizes = SIZES[size or ("full" if device == "cuda" else "small")]
    with tempfile.TemporaryDirectory(prefix="stale-gpu-") as folder:
        try:
            request = GpuRequest(
                device=device, sizes=sizes, workspace=Path(folder), reference=reference, limit_s=limit_s
            )
        except ValueError as problem:
            raise click.UsageError(str(problem)) from problem
        chosen = {name: place for name, place in SECTIONS.items() if not names or name in names}
        report = run_sections(request, chosen, output)
    if report.failed:
        console.note(NAME, f"error: failed: {', '.join(report.failed)}")
        return 1
    return 0


def run_sections(request: GpuRequest, sections: Mapping[str, str], output: Path) -> GpuReport:
    """Run sections one after the other; print each, and write the report after each.

    Args:
        request: where and with what.
        sections: ``module:function`` of each, by name.
        output: JSON file for the report; its folder is made.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        machine = describe_machine(request.device)
    except RuntimeError:  # the section on the environment says why
        machine = {}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    report = GpuReport(created=created, device=request.device, machine=machine)
    for name, place in sections.items():
        console.note(NAME, f"{name} …")
        section = run_section(name, _importing(place), request)
        report = replace(report, sections=(*report.sections, section))
        write_whole(output, report.to_json().encode())
        console.echo(draw_section(section) + "\n")
    console.note(NAME, f"{output}: {time.monotonic() - request.started:.0f} s")
    return report


def run_section(name: str, check: Callable[[GpuRequest], Findings], request: GpuRequest) -> SectionReport:
    """Run a section, and note how it ended, whatever happens in it."""
    started = time.monotonic()
    findings, reason = None, None
    try:
        findings = check(request)
    except ModuleNotFoundError as problem:
        missing = problem.name or str(problem)
        status = FAILED if missing.startswith(OWN) else NOT_MEASURED
        reason = f"needs {missing}"
    except Exception as problem:  # the other sections must still run
        status = FAILED
        kind = "" if isinstance(problem, StaleError | RuntimeError) else f"{type(problem).__name__}: "
        reason = one_line(f"{kind}{problem}")[:500]
    else:
        failed = [str(check) for check in findings.checks if not check.passed]
        status, reason = (FAILED, "; ".join(failed)) if failed else (PASSED, None)
    return SectionReport(
        name=name, status=status, reason=reason, seconds=round(time.monotonic() - started, 1), findings=findings
    )


def _importing(place: str) -> Callable[[GpuRequest], Findings]:
    """A function that imports another one when it is called, and calls it."""

    def check(request: GpuRequest) -> Findings:
        module, _, function = place.partition(":")
        findings: Findings = getattr(import_module(module), function)(request)
        return findings

    return check


def main() -> None:
    """Run ``python -m tests.gpu.run``."""
    console.run_command(check_gpu, NAME)


if __name__ == "__main__":
    main()
