"""The recipes for schedulers in docs/many_machines.md, with a stand-in for Slurm and for the pods of Kubernetes."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stale_runtime.inputs.shards import Shard
from tests.cli.command import outside_make
from tests.cli.same_process import run
from tests.docs.blocks import ROOT, Block, read_blocks
from tests.docs.shell import BIN
from tests.tiny import CHANNELS

BLOCKS = read_blocks("docs/many_machines.md")
SBATCH = ROOT / "tests" / "docs" / "fake_sbatch.py"


def block_with(text: str) -> Block:
    return next(block for block in BLOCKS if text in block.code)


@pytest.fixture
def data(bundle: Path, tmp_path: Path) -> Path:
    """Features, one of them broken, and a file in which one run wrote what is in them."""
    (tmp_path / "feats").mkdir()
    (tmp_path / "stale_bundle").symlink_to(bundle)
    (tmp_path / "classes.txt").write_text("polo\narchery\n")
    for n in range(5):
        rows = np.random.default_rng(n).standard_normal((20, CHANNELS)).astype(np.float32)
        np.save(tmp_path / "feats" / f"{n}.npy", rows)
    (tmp_path / "feats" / "broken.npy").touch()
    assert run("stale-run", "feats", "--prompts", "classes.txt", "-o", "one.json", cwd=tmp_path).returncode == 5
    return tmp_path


def in_shell(code: str, folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    paths = os.pathsep.join([str(folder / "bin"), str(BIN), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=folder,
        env={**outside_make(), "PATH": paths, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_scripts_for_slurm_work_as_they_stand(data: Path) -> None:
    for folder in ("bin", "jobs"):
        (data / folder).mkdir()
    (data / "bin" / "sbatch").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {SBATCH} "$@"\n')
    (data / "bin" / "sbatch").chmod(0o755)
    script, merge = block_with("--array=0-63").code, block_with("--job-name=stale-merge").code
    assert script.count("64") == script.count("63") == 1
    (data / "shards.sh").write_text(script.replace("64", "3").replace("63", "2"))
    (data / "merge.sh").write_text(merge)
    submitted = in_shell(block_with("--parsable shards.sh").code, data, FAKE_SLURM=str(data / "jobs"))
    assert submitted.returncode == 0, submitted.stderr
    assert (data / "jobs" / "1").read_text() == "0 0 0"  # with a broken video
    assert (data / "jobs" / "2").read_text() == "5"
    assert results_of(data / "detections.json") == results_of(data / "one.json")

    (data / "detections.json").unlink()
    for shard in (0, 2):
        (data / "shards" / f"{shard}.jsonl").unlink()
    kept = (data / "shards" / "1.jsonl").stat()
    again = block_with("--array=3,17").code.replace("3,17", "0,2")
    submitted = in_shell(again, data, FAKE_SLURM=str(data / "jobs"))
    assert submitted.returncode == 0, submitted.stderr
    assert (data / "jobs" / "3").read_text() == "0 0"
    assert (data / "shards" / "1.jsonl").stat() == kept
    assert results_of(data / "detections.json") == results_of(data / "one.json")


def test_the_job_for_kubernetes_runs_each_shard_once(data: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="no PyYAML")
    job = yaml.safe_load(block_with("kind: Job").code)
    spec = job["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    volumes = {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
    assert (job["apiVersion"], spec["completionMode"]) == ("batch/v1", "Indexed")
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert [rule["onExitCodes"]["containerName"] for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert sum(str(spec["completions"]) in argument for argument in container["args"]) == 1
    (data / "shards").mkdir()
    codes = {pod(container, index, data).returncode for index in range(3)}
    failing = next(rule["onExitCodes"]["values"] for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule)
    assert codes == {0, 5}
    assert 5 in failing
    assert run("stale-merge", "shards", "-o", "all.json", cwd=data).returncode == 5
    assert results_of(data / "all.json") == results_of(data / "one.json")
    broken = next(index for index in range(3) if Shard(index=index, count=3).has("broken"))
    assert pod(container, broken, data).returncode == 0  # nothing is done twice


def pod(container: dict[str, Any], index: int, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run what a pod of three runs."""
    words = [*container["command"], *container["args"]]
    words = [word.replace("$(JOB_COMPLETION_INDEX)", str(index)).replace(f"{index}/64", f"{index}/3") for word in words]
    return in_shell(shlex.join(words), folder)


def results_of(path: Path) -> Any:
    content = json.loads(path.read_text())
    return {**content, "results": dict(sorted(content["results"].items()))}
