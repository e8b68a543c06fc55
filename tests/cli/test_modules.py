"""Commands started as modules: ``python -m``. A module that did nothing would end with 0, as if all were well."""

import subprocess
import sys
from pathlib import Path

import pytest


def run_module(module: str, *arguments: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("module", ["stale_runtime", "stale_runtime.commands.run"])
def test_stale_run_is_run(module: str, bundle: Path, tmp_path: Path) -> None:
    done = run_module(module, "--self-test", "--bundle", bundle, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ort-fp32: cas_logits" in done.stdout
    failed = run_module(module, "--self-test", "--bundle", "nowhere", cwd=tmp_path)
    assert failed.returncode == 4
    assert failed.stderr.startswith("stale-run: error: no bundle: looked in --bundle nowhere")


def test_stale_eval_is_run(tmp_path: Path) -> None:
    done = run_module("stale_runtime.commands.evaluate", "no.json", "--ground-truth", "no.json", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr == "stale-eval: error: no.json: No such file or directory\n"


@pytest.mark.parametrize(
    "module",
    [
        *("stale_model", "stale_model.train_command", "stale_model.demo", "stale_model.demo.demo_command"),
        "stale_model.demo.demo_summary",
        *("stale_export", "stale_export.export_command", "stale_bench", "stale_bench.bench_command"),
    ],
)
def test_every_command_s_module_runs_it(module: str, tmp_path: Path) -> None:
    done = run_module(module, "--no-such-option", cwd=tmp_path)
    assert done.returncode == 2
    assert "No such option" in done.stderr
