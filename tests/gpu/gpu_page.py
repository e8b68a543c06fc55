"""``docs/gpu.md``, made from the committed report of a run on a card."""

import textwrap
from pathlib import Path

from stale_runtime.errors import DatasetError
from tests.gpu.gpu_report import FAILED, PASSED, GpuReport, SectionReport, read_gpu_report

ROOT = Path(__file__).parents[2]
PAGE, REPORT = ROOT / "docs" / "gpu.md", ROOT / "docs" / "gpu.json"
WIDTH = 118
INTRODUCTION = """\
What `make gpu` found on a GPU: whether the network computes there what it computes on a CPU, what an epoch of training
costs, and the original's speed, as the thesis measured it. `python -m tests.gpu.run --render build/gpu.json` writes
this page from the report of such a run, and never from one in which a CPU stood in for the GPU."""
NOT_YET = """\
**Not measured yet.** Nobody has run `make gpu` where there is a GPU, so there are no numbers here. The same checks run
with a CPU in the GPU's place in the tests (`tests/gpu/`)."""


def current_report() -> GpuReport | None:
    """The committed report; None as long as there is none."""
    return read_gpu_report(REPORT) if REPORT.exists() else None


def make_page(report: GpuReport | None) -> str:
    """The page as Markdown.

    Raises:
        DatasetError: the report is not of a GPU.
    """
    parts = ["# On a GPU", INTRODUCTION]
    if report is None:
        return "\n\n".join([*parts, NOT_YET]) + "\n"
    if report.device != "cuda":
        raise DatasetError(
            f"this report is of the device {report.device!r}, which stood in for a GPU; run make gpu where there is one"
        )
    parts.append(f"Measured on {report.created[:10]} on {report.machine.get('card', 'an unknown card')}.")
    return "\n\n".join([*parts, *map(draw_section, report.sections)]) + "\n"


def draw_section(section: SectionReport) -> str:
    """Heading, outcome, what was done, table and checks of a section."""
    outcome = {PASSED: "Passed", FAILED: "**Failed**"}.get(section.status, "Not measured")
    outcome += f" in {section.seconds:.0f} s." if section.reason is None else f": {section.reason}"
    parts = [f"## {section.name}", _fill(outcome)]
    if (findings := section.findings) is not None:
        parts.append(_fill(findings.text))
        if findings.table is not None:
            parts.append("\n".join(findings.table.draw()))
        if findings.checks:
            parts.append("\n".join(f"- {'' if check.passed else '**failed:** '}{check}" for check in findings.checks))
    return "\n\n".join(parts)


def write_page(path: Path) -> None:
    """Keep a report beside the page, and write the page from it.

    Raises:
        DatasetError: the report cannot be used, or is not of a GPU.
    """
    report = read_gpu_report(path)
    page = make_page(report)
    REPORT.write_text(report.to_json())
    PAGE.write_text(page)


def _fill(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)
