"""The batch script of docs/training.md, with stand-ins for Slurm's commands: two nodes on two addresses."""

import os
import re
import subprocess
import sys
from pathlib import Path

import torch

from stale_model.training.training_files import LAST, METRICS
from tests import tiny
from tests.stale_model.training.test_distributed import free_port

DOCS = Path(__file__).parents[3] / "docs" / "training.md"
SCONTROL = '#!/bin/sh\n[ "$1 $2 $3" = "show hostnames node[1-2]" ] && printf "127.0.0.1\\n127.0.0.2\\n"\n'
SRUN = """#!/bin/bash
# starts the command on each node, as srun does, and ends with the worst exit code
[ "$1" = --kill-on-bad-exit=1 ] && [ "$2" = torchrun ] || exit 99
shift 2
worst=0
for node in 0 1; do
  SLURM_NODEID=$node SLURM_PROCID=$node torchrun --local-addr "127.0.0.$((node + 1))" "$@" &
done
for _ in 0 1; do wait -n || worst=$?; done
exit "$worst"
"""


def test_the_batch_script_trains_on_two_nodes_and_goes_on_after_a_requeue(
    training_data: Path, clip_folder: Path, tmp_path: Path
) -> None:
    (script,) = re.findall(r"```sh\n(#!/bin/bash\n#SBATCH.*?)```", DOCS.read_text(), re.DOTALL)
    for old, new in {
        "activity_net.json": f"{training_data}/annotations.json",
        "feats/": f"{training_data}/features",
        ":29500": f":{free_port()}",
        "--split closed": f"--split closed --clip {clip_folder} --length {tiny.LENGTH} --threads 1 --epochs $EPOCHS",
    }.items():
        assert script.count(old) == 1
        script = script.replace(old, new)
    (tmp_path / "train.sbatch").write_text(script)
    commands = tmp_path / "commands"
    commands.mkdir()
    for name, content in {"scontrol": SCONTROL, "srun": SRUN}.items():
        (commands / name).write_text(content)
        (commands / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}
    search = f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    for epochs in (1, 2):
        job = subprocess.run(
            ["bash", "train.sbatch"],
            cwd=tmp_path,
            env={**os.environ, **slurm, "PATH": search, "TMPDIR": str(tmp_path), "EPOCHS": str(epochs)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert job.returncode == 0, job.stderr
        assert len((tmp_path / "training" / METRICS).read_text().splitlines()) == epochs + 1
    assert "so far 1: after epoch 1" in job.stderr  # it was resumed, by each process, and the first one says so
    assert torch.load(tmp_path / "training" / LAST, weights_only=True)["training"]["plan"] == [[0, 1], [1, 2]]
    assert len(list(tmp_path.glob("stale_cache/*.safetensors"))) == 1  # the two nodes are one machine here
