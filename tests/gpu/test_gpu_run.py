"""``make gpu`` as a whole, with the CPU in the GPU's place."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from stale_runtime.errors import DatasetError
from tests.gpu import forward_check, gpu_page, run
from tests.gpu.gpu_page import PAGE, current_report, make_page
from tests.gpu.gpu_report import FAILED, NOT_MEASURED, PASSED, Check, Findings, GpuReport, Table, read_gpu_report
from tests.gpu.gpu_request import TINY, GpuRequest
from tests.gpu.run import SECTIONS, check_gpu, run_section, run_sections

ROOT = Path(__file__).parents[2]
BARE = """
import sys
from importlib.abc import MetaPathFinder

class OnlyPyTorch(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, OnlyPyTorch())
from tests.gpu import run
from tests.gpu.gpu_request import TINY
run.SIZES["small"] = TINY
run.main()
"""
MISSING: tuple[str, ...] = (
    "transformers",
    "tokenizers",
    "lightning_fabric",
    "lightning",
    "onnx",
    "onnxruntime",
    "onnxscript",
)
MISSING += ("tabulate", "matplotlib", "safetensors", "psutil", "pynvml", "scipy", "pytest", "hypothesis")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run.SIZES, "small", TINY)


def make_report(device: str = "cuda") -> GpuReport:
    """A report of a card that does not exist."""
    table = Table(
        headers=("T", "forward s", "note"), formats=(".0f", ".2f", ""), rows=((100, 0.5, None), (200, None, "x"))
    )
    check = Check.at_most(1, "masks", 2)
    report = GpuReport(created="2030-01-01T00:00:00+00:00", device=device, machine={"card": "Abacus 3000"})
    section = run_section(
        "Forward pass",
        lambda _: Findings(text="What was done.", table=table, checks=(check,)),
        GpuRequest(device="cpu", sizes=TINY, workspace=Path()),
    )
    return GpuReport(**{**vars(report), "sections": (section,)})


def test_everything_runs_with_a_cpu_in_the_gpu_s_place(tmp_path: Path) -> None:
    output = tmp_path / "build" / "gpu.json"
    done = CliRunner().invoke(check_gpu, ["--device", "cpu", "-o", str(output)], standalone_mode=False)
    report = read_gpu_report(output)
    assert done.return_value == 0, done.output
    assert {section.name: section.reason for section in report.sections} == dict.fromkeys(SECTIONS)
    assert report.device == "cpu"
    tables = {section.name: section.findings.table if section.findings else None for section in report.sections}
    assert all(table is not None and table.rows for table in tables.values())
    thesis = tables["The thesis's table"]
    assert thesis is not None
    assert (thesis.rows[0][0], thesis.rows[0][1]) == ("upstream-int8", 16)
    with pytest.raises(DatasetError, match="stood in for a GPU"):
        make_page(report)


def test_a_failed_check_gives_exit_code_1_and_the_others_still_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward_check, "EXACT_MASKS", -1.0)
    output = tmp_path / "gpu.json"
    chosen = ["--section", "Forward pass", "--section", "Loss and gradient"]
    done = CliRunner().invoke(check_gpu, ["--device", "cpu", "-o", str(output), *chosen], standalone_mode=False)
    assert done.return_value == 1
    assert [section.status for section in read_gpu_report(output).sections] == [FAILED, PASSED]
    assert "make gpu: error: failed: Forward pass" in done.output


def test_the_report_is_written_after_each_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "gpu.json"
    seen: list[int] = []

    def look(_request: GpuRequest) -> Findings:
        seen.append(len(read_gpu_report(output).sections) if output.exists() else 0)
        raise KeyError("broken")

    monkeypatch.setattr(run, "look", look, raising=False)
    request = GpuRequest(device="cpu", sizes=TINY, workspace=tmp_path)
    report = run_sections(request, {"one": "tests.gpu.run:look", "two": "tests.gpu.run:look"}, output)
    assert seen == [0, 1]
    assert report.failed == ("one", "two")
    assert report.sections[0].reason == "KeyError: 'broken'"


@pytest.mark.parametrize(("name", "status"), [("transformers", NOT_MEASURED), ("stale_model.lost", FAILED)])
def test_a_missing_library_is_no_failure_but_a_missing_module_of_ours_is(name: str, status: str) -> None:
    def check(_request: GpuRequest) -> Findings:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    section = run_section("x", check, GpuRequest(device="cpu", sizes=TINY, workspace=Path()))
    assert (section.status, section.reason) == (status, f"needs {name}")


def test_pytorch_alone_is_enough_for_what_needs_no_other_library(tmp_path: Path) -> None:
    program = BARE.format(missing=set(MISSING))
    command = [sys.executable, "-c", program, "--device", "cpu", "-o", str(tmp_path / "gpu.json")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    statuses = {section.name: section.status for section in read_gpu_report(tmp_path / "gpu.json").sections}
    assert list(statuses.values()) == [PASSED, PASSED, PASSED, NOT_MEASURED, NOT_MEASURED, NOT_MEASURED]
    assert done.stdout.count("Not measured: needs ") == 3


def test_a_report_round_trips(tmp_path: Path) -> None:
    report = make_report()
    (tmp_path / "gpu.json").write_text(report.to_json())
    assert read_gpu_report(tmp_path / "gpu.json") == report


@pytest.mark.parametrize("content", ["[]", "{}", '{"format_version": 1}', '{"format_version": 2}'])
def test_another_file_is_no_report(tmp_path: Path, content: str) -> None:
    (tmp_path / "gpu.json").write_text(content)
    with pytest.raises(DatasetError, match="run make gpu again"):
        read_gpu_report(tmp_path / "gpu.json")


def test_the_page_is_made_from_the_committed_report() -> None:
    assert PAGE.read_text() == make_page(current_report()), "run python -m tests.gpu.run --render docs/gpu.json"


def test_the_page_shows_the_card_failures_and_tables() -> None:
    page = make_page(make_report())
    assert "Measured on 2030-01-01 on Abacus 3000." in page
    assert "**Failed**: masks: 2 (limit 1)" in page
    assert "| 100 |      0.50 |      |\n| 200 |           | x    |" in page
    assert "Not measured yet" not in page
    assert "Not measured yet" in make_page(None)


def test_rendering_refuses_a_report_of_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_page, "PAGE", tmp_path / "gpu.md")
    monkeypatch.setattr(gpu_page, "REPORT", tmp_path / "kept.json")
    path = tmp_path / "gpu.json"
    path.write_text(make_report(device="cpu").to_json())
    done = CliRunner().invoke(check_gpu, ["--render", str(path)], standalone_mode=False)
    assert isinstance(done.exception, DatasetError)
    assert not (tmp_path / "gpu.md").exists()
    path.write_text(make_report().to_json())
    assert CliRunner().invoke(check_gpu, ["--render", str(path)], standalone_mode=False).return_value == 0
    assert (tmp_path / "gpu.md").read_text() == make_page(make_report())
    assert json.loads((tmp_path / "kept.json").read_text())["device"] == "cuda"
