from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.arm import run
from tests.arm.agreement import Agreement
from tests.arm.emulation import Emulation, FetchError
from tests.arm.processors import PROCESSORS, Processor
from tests.arm.run import Machine, run_trial, run_trials
from tests.arm.subjects import Subject

EQUAL = Agreement(detections=20, missing=0, surplus=0, difference=1e-6)


@dataclass(frozen=True, kw_only=True)
class Scripted(Machine):
    """Runs nothing, and gives the answers that it was made with."""

    emulation: Emulation = field(default_factory=lambda: Emulation(folder=Path("no"), constraints=Path("no")))
    self_test_says: str | None = None
    detect_says: str | None = None
    agreement: Agreement = EQUAL
    compared: list[str] = field(default_factory=list)

    def self_test(self, *_: object, **__: object) -> str | None:
        return self.self_test_says

    def detect(self, *_: object, **__: object) -> str | None:
        return self.detect_says

    def compare(self, _: Subject, backend: str, __: Processor) -> Agreement:
        self.compared.append(backend)
        return self.agreement


@pytest.fixture
def subject(bundle: Path) -> Subject:
    return Subject(name="tiny", bundle=bundle, features=bundle, prompts=bundle)


@pytest.mark.parametrize(
    ("cpu", "backends"),
    [("cortex-a53", ["ort-fp32", "ort-int8", "ort-int8-dynamic"]), ("max", ["ort-fp32"])],
)
def test_dynamic_graphs_are_not_compared_where_rows_are_rounded(
    subject: Subject, cpu: str, backends: list[str]
) -> None:
    machine = Scripted()
    (trial,) = run_trials(machine, [subject], [PROCESSORS[cpu]])
    assert machine.compared == backends  # the tiny bundle was exported without calibration: both int8 are dynamic
    assert trial.problems == ()
    assert trial.row[:4] == (cpu, "tiny", "passed", "20 equal segments, scores within 1e-06")


@pytest.mark.parametrize(
    ("machine", "problem", "self_test"),
    [
        (Scripted(self_test_says="self-test: FAILED x"), "self-test: FAILED x", "FAILED"),
        (Scripted(detect_says="ort-fp32: killed"), "ort-fp32: killed", "passed"),
        (
            Scripted(agreement=Agreement(detections=20, missing=1, surplus=0, difference=0.0)),
            "ort-fp32: 1 of 20 segments missing, 0 others",
            "passed",
        ),
    ],
)
def test_whatever_differs_fails(subject: Subject, machine: Scripted, problem: str, self_test: str) -> None:
    trial = run_trial(machine, subject, PROCESSORS["cortex-a53"])
    assert trial.problems[0] == problem
    assert trial.row[2] == self_test


def test_a_machine_that_cannot_run_it_itself_is_said(subject: Subject) -> None:
    with pytest.raises(FetchError, match="tiny: this machine cannot run it: ort-fp32: killed"):
        run_trials(Scripted(detect_says="ort-fp32: killed"), [subject], [])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--bundle", "."], "give all of them or none"),
        (["--processor", "6502"], "'6502' is not one of"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Emulation, "fetch", lambda _: None)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(run.check_processors, options)
    assert done.exit_code == 2
    assert says in done.output


def test_another_machine_than_x86_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    done = CliRunner().invoke(run.check_processors, [])
    assert (done.exit_code, "this machine is riscv64, expected x86_64" in done.output) == (2, True)
