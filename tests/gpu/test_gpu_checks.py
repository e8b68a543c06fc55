"""Each check passes on equal computations, and fails on wrong ones."""

import copy
from pathlib import Path

import pytest
import torch

from stale_model.training.train_request import TrainRequest
from tests.bench.helpers import make_results, make_row
from tests.gpu import distributed_check, thesis_check
from tests.gpu.card import describe_card
from tests.gpu.demo_data import make_train_request
from tests.gpu.distributed_check import check_distributed, train_distributed
from tests.gpu.forward_check import checks_of, compare_forward
from tests.gpu.gpu_report import FAILED, PASSED, Check
from tests.gpu.gpu_request import TINY, GpuRequest
from tests.gpu.gradient_check import check_gradients, checks_of_gradients, compute_gradient
from tests.gpu.made_up import make_features, make_network, make_prompts, make_targets
from tests.gpu.run import run_section
from tests.gpu.thesis_check import check_thesis, made_up_names
from tests.gpu.training_check import EpochCost, checks_of_training, largest_difference, step_losses


@pytest.fixture
def request_on_cpu(tmp_path: Path) -> GpuRequest:
    return GpuRequest(device="cpu", sizes=TINY, workspace=tmp_path)


def verdicts(checks: list[Check] | tuple[Check, ...]) -> list[bool]:
    return [check.passed for check in checks]


def test_a_number_that_is_not_finite_passes_no_check() -> None:
    assert Check.at_most(1, "x", 1.0).passed
    assert not Check.at_most(1, "x", 1.01).passed
    assert not Check.at_most(1, "x", float("nan")).passed
    assert str(Check.at_most(1, "x", float("inf"))) == "x: not finite (limit 1)"


@pytest.mark.parametrize("tf32", [False, True])
def test_a_forward_pass_with_other_weights_is_found(tf32: bool) -> None:
    network = make_network(16)
    prompts, features = make_prompts(network, 3), make_features(2, 16, network.config.channels)
    same = compare_forward(network, copy.deepcopy(network), list(features), prompts, device="cpu", tf32=tf32)
    assert all(verdicts(checks_of(same, "x", tf32=tf32)))
    assert same.masks == same.logits == same.decided_otherwise == 0
    wrong = copy.deepcopy(network)
    with torch.no_grad():
        wrong.mask_localizer.kernel[3] += 0.1
    other = compare_forward(network, wrong, list(features), prompts, device="cpu", tf32=tf32)
    assert not checks_of(other, "x", tf32=tf32)[0].passed


def test_class_activations_that_differ_are_found_though_the_masks_are_equal() -> None:
    network = make_network(16)
    wrong = copy.deepcopy(network)
    with torch.no_grad():
        wrong.cross_adaptation.output.weight *= 1.01
    features = list(make_features(1, 16, network.config.channels))
    other = compare_forward(network, wrong, features, make_prompts(network, 3), device="cpu", tf32=False)
    assert verdicts(checks_of(other, "x", tf32=False)) == [True, False, True]


def test_a_network_that_computes_nan_is_found() -> None:
    network = make_network(16)
    wrong = copy.deepcopy(network)
    with torch.no_grad():
        wrong.mask_localizer.kernel[3] = float("nan")
    features = list(make_features(1, 16, network.config.channels))
    for tf32 in (False, True):
        other = compare_forward(network, wrong, features, make_prompts(network, 3), device="cpu", tf32=tf32)
        assert not all(verdicts(checks_of(other, "x", tf32=tf32)))


def test_gradients_of_equal_networks_are_equal_and_bf16_is_near(request_on_cpu: GpuRequest) -> None:
    findings = check_gradients(request_on_cpu)
    assert all(verdicts(findings.checks))
    assert findings.table is not None
    assert findings.table.rows[0] == ("float32", 0.0, 0.0)
    loss = findings.table.rows[1][1]
    assert isinstance(loss, float)
    assert 0 < loss < 0.02


def test_another_loss_or_gradient_is_found() -> None:
    network = make_network(16)
    features, targets = make_features(2, 16, network.config.channels), make_targets(2, 16, 3)
    prompts = make_prompts(network, 3)
    first = compute_gradient(network, features, targets, prompts, device="cpu", cast=None)
    with torch.no_grad():
        network.snippet_embedding.output.weight *= 1.5
    second = compute_gradient(network, features, targets, prompts, device="cpu", cast=None)
    loss = abs(second.loss - first.loss) / first.loss
    gradient = float((second.gradient - first.gradient).norm() / first.gradient.norm())
    assert not checks_of_gradients({"float32": (0.0, gradient)})[1].passed
    assert not checks_of_gradients({"float32": (loss, 0.0)})[0].passed


def test_steps_that_start_from_other_weights_are_found(request_on_cpu: GpuRequest, tmp_path: Path) -> None:
    run = make_train_request(request_on_cpu, device="cpu", precision="32", output=tmp_path / "run")
    first = step_losses(run, 1)
    again = step_losses(run, 1)
    assert len(first) == 1
    assert largest_difference(first, again) == 0
    object.__setattr__(run.config, "seed", 1)
    other = largest_difference(first, step_losses(run, 1))
    assert verdicts(checks_of_training("32", other, first, first)) == [False, True]
    assert verdicts(checks_of_training("32", 0.0, first, [1.2 * loss for loss in first])) == [True, False]
    assert verdicts(checks_of_training("32", 0.0, first, [float("nan")])) == [True, False]


def test_a_distributed_training_with_another_loss_is_found(
    request_on_cpu: GpuRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = {"plain": (2.0, 1.0), "distributed": (2.0, 1.01)}

    def train(run: TrainRequest) -> EpochCost:
        return EpochCost(losses=losses[run.output.name], seconds=1.0, peak_memory_mb=1.0, gpu_percent=None)

    monkeypatch.setattr(distributed_check, "train_epochs", train)
    monkeypatch.setattr(distributed_check, "train_distributed", train)
    assert verdicts(check_distributed(request_on_cpu).checks) == [False]
    losses["distributed"] = (2.0, 1.0)
    assert verdicts(check_distributed(request_on_cpu).checks) == [True]


def test_a_training_that_does_not_run_fails_with_its_own_message(request_on_cpu: GpuRequest) -> None:
    folder = request_on_cpu.workspace / "data"
    folder.mkdir()  # without anything in it
    run = make_train_request(request_on_cpu, device="cpu", precision="32", output=folder / "run")
    with pytest.raises(RuntimeError, match=r"-m stale_model ended with 1: stale-train: error: .*annotations\.json"):
        train_distributed(run)


def test_a_length_that_could_not_be_measured_is_found(
    request_on_cpu: GpuRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = make_row(((4.0,), (6.0,)), length=100, gpu={"memory_mb": 400.0, "utilisation": 0.5})
    rows = [measured, make_row((), length=200, error="killed")]
    monkeypatch.setattr(thesis_check, "write_thesis_bundle", lambda request: (request.workspace, "3 prompts"))
    monkeypatch.setattr(thesis_check, "run_benchmark", lambda *_: make_results(*rows))
    section = run_section("x", check_thesis, request_on_cpu)
    assert section.status == FAILED
    assert section.findings is not None
    assert "ort-fp32 at T=200: killed." in section.findings.text
    assert section.findings.table is not None
    assert section.findings.table.texts()[1:] == [("ort-fp32", "100", "0.0050", "0.0014", "400", "50%", "")]
    rows.pop()
    assert run_section("x", check_thesis, request_on_cpu).status == PASSED


def test_made_up_prompts_are_as_many_and_as_long_as_the_original_s() -> None:
    names = made_up_names(200)
    assert len(set(names)) == 200
    assert max(len(f"a video of action {name}".split()) for name in names) + 2 == 12


def test_without_a_gpu_the_environment_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    section = run_section("x", describe_card, GpuRequest(device="cuda", sizes=TINY, workspace=tmp_path))
    assert (section.status, section.reason) == (FAILED, "PyTorch finds no GPU here; run make gpu DEVICE=cpu")
