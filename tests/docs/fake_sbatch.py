"""A stand-in for Slurm's ``sbatch``: it runs a job's tasks at once, one after the other, on this machine.

``--array`` may be 0-3, 1,3 or a mixture, on the command line or in a line ``#SBATCH`` of the script; ``--parsable``
prints the job's number alone. ``--dependency=afterany:JOB`` needs a job that was given before. Everything else is
ignored. The exit codes of a job's tasks stand in a file of its number, in the folder ``$FAKE_SLURM``.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Run the tasks of one job."""
    options, script = _options(sys.argv[1:])
    jobs = Path(os.environ["FAKE_SLURM"])
    if options.dependency is not None:
        kind, _, needed = options.dependency.partition(":")
        assert kind == "afterany", kind
        assert (jobs / needed).exists(), needed
    number = 1 + len(list(jobs.iterdir()))
    (jobs / str(number)).touch()
    codes = [
        subprocess.run(["bash", script], env=environment, check=False).returncode for environment in _tasks(options)
    ]
    (jobs / str(number)).write_text(" ".join(map(str, codes)))
    print(number if options.parsable else f"Submitted batch job {number}")


def _options(arguments: list[str]) -> tuple[argparse.Namespace, str]:
    parser = argparse.ArgumentParser()
    for name in ("--array", "--dependency"):
        parser.add_argument(name)
    parser.add_argument("--parsable", action="store_true")
    script = arguments[-1]
    written = re.findall(r"^#SBATCH (\S+)$", Path(script).read_text(), re.MULTILINE)
    return parser.parse_known_args([*written, *arguments[:-1]])[0], script


def _tasks(options: argparse.Namespace) -> "list[dict[str, str]]":
    """The environment of each task."""
    if options.array is None:
        return [dict(os.environ)]
    tasks: list[int] = []
    for part in options.array.split(","):
        first, _, last = part.partition("-")
        tasks += range(int(first), int(last or first) + 1)
    return [{**os.environ, "SLURM_ARRAY_TASK_ID": str(task)} for task in tasks]


if __name__ == "__main__":
    main()
