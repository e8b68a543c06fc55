"""Kill the commands at random moments: ``python -m tests.crash.random_kills --kills 200``.

Half of the kills come at a random time in the last part of a run, the others just after something has changed in the
folder that the command writes to. After each kill the folder must hold the old state or the new one, bit for bit. Then
the command runs again; it must end like an undisturbed one and leave nothing else behind.
"""

import csv
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from tabulate import tabulate

from stale_model.training.training_files import BEST, CURVES, LAST, METRICS
from stale_runtime.bundle import layout
from tests import tiny
from tests.crash.faults import snapshot, visible
from tests.signing import make_keys

PROMPTS = 40
VIDEOS = 60
REPORT, JOURNAL = "out/report.json", "out/result.json.partial.jsonl"
SIGNATURE = f"out/bundle/{layout.SIGNATURE}"
LATE = 0.7
"""Kills by the clock come after this fraction of a run."""
NOT_REPRODUCED = ("seconds", "peak_memory_mb")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A command that is killed."""

    name: str
    share: float
    """The fraction of all kills that this command gets."""
    command: Callable[[Path], list[str]]
    """Gives the command to run in a folder, which may depend on what the folder holds."""
    watched: str
    """The folder that is written to, relative to the folder that the command runs in."""
    prepare: Callable[[Path], None]
    """Makes the old state in an empty folder."""
    verdict: Callable[[Path, Path, Path], str]
    """Compares a folder with one in the old state and one in the new: returns old, new or part, or fails."""


@click.command()
@click.option("--kills", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--only", help="The name of one scenario; default: all.")
def main(kills: int, seed: int, only: str | None) -> None:
    """Kill the commands, and print a table of what they left."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = write_inputs(Path(folder) / "inputs")
        os.environ["STALE_CACHE"] = str(Path(folder) / "no cache")
        os.environ["TMPDIR"] = str(Path(folder) / "tmp")
        Path(os.environ["TMPDIR"]).mkdir()
        rows = []
        for scenario in scenarios(inputs):
            if only in (None, scenario.name):
                work = Path(folder) / scenario.name
                work.mkdir()
                count = kills if only else round(kills * scenario.share)
                rows.append([scenario.name, count, *kill_often(scenario, work, count, random.Random(seed))])
                click.echo(f"{scenario.name}: {count} kills, no problem found", err=True)
    headers = ("command", "kills", "old state", "new state", "some of the files", "workspaces left", "ended first")
    click.echo(tabulate(rows, headers))


def write_inputs(folder: Path) -> Path:
    """Two checkpoints, a bundle of the first, training data, a video and prompts."""
    clip = tiny.write_clip_folder(folder / "clip")
    make_keys(folder / "keys")
    for seed in (0, 1):
        state = tiny.upstream_state(tiny.make_network(seed), tiny.make_tower(clip, seed))
        tiny.save_checkpoint(folder / f"{seed}.pth", state)
    tiny.write_training_data(folder / "data")
    (folder / "videos").mkdir()
    for n in range(VIDEOS):
        np.save(folder / "videos" / f"{n}.npy", np.random.default_rng(n).standard_normal((30, tiny.CHANNELS)))
    letters = random.Random(0)
    names = {"".join(letters.choices("abcdefgh", k=12)) for _ in range(PROMPTS)}
    (folder / "classes.txt").write_text("\n".join(sorted(names)))
    finish(export_command(folder, 0, folder / "bundle"), folder)
    return folder


def export_command(inputs: Path, seed: int, output: Path) -> list[str]:
    """The arguments of ``stale-export``."""
    command = ["stale-export", "--ckpt", f"{inputs}/{seed}.pth", "--clip", f"{inputs}/clip", "-o", str(output)]
    return [*command, "--sign", f"{inputs}/keys/key.pem"]


def scenarios(inputs: Path) -> list[Scenario]:
    """All commands that write files."""
    run = ["stale-run", "--bundle", f"{inputs}/bundle", "--prompts", f"{inputs}/classes.txt"]
    run += ["--format", "json", "-o", "out/result.json"]
    one, many = [*run, f"{inputs}/videos/0.npy"], [*run, f"{inputs}/videos", "--no-cache"]
    train = ["stale-train", "--annotations", f"{inputs}/data/annotations.json", "--features", f"{inputs}/data/features"]
    train += ["--split", "closed", "--clip", f"{inputs}/clip", "--length", str(tiny.LENGTH), "--batch-size", "4"]
    train += ["--epochs", "3", "--device", "cpu", "--threads", "1", "-o", "out/training"]

    def old_result(folder: Path) -> None:
        (folder / "out").mkdir()
        (folder / "out" / "result.json").write_text("old")

    def old_result_and_report(folder: Path) -> None:
        old_result(folder)
        (folder / REPORT).write_text("old")

    def old_bundle(folder: Path) -> None:
        (folder / "out").mkdir()
        shutil.copytree(inputs / "bundle", folder / "out" / "bundle")

    return [
        Scenario(
            name="stale-run -o",
            share=0.25,
            command=lambda _: [*one, "--no-cache", "--verify", f"{inputs}/keys/key.pub"],
            watched="out",
            prepare=old_result,
            verdict=old_or_new,
        ),
        Scenario(
            name="stale-run of a folder",
            share=0.2,
            command=lambda folder: [
                *many,
                *("--report", REPORT),
                *(["--resume"] if (folder / JOURNAL).exists() else []),
            ],
            watched="out",
            prepare=old_result_and_report,
            verdict=run_of_many,
        ),
        Scenario(
            name="prompt cache",
            share=0.3,
            command=lambda _: [*one, "--cache", "cache"],
            watched="cache",
            prepare=old_result,
            verdict=some_of_new,
        ),
        Scenario(
            name="stale-train",
            share=0.15,
            command=lambda folder: [*train, *(["--resume"] if (folder / "out/training" / LAST).exists() else [])],
            watched="out/training",
            prepare=lambda _: None,
            verdict=training,
        ),
        Scenario(
            name="stale-export",
            share=0.1,
            command=lambda _: export_command(inputs, 1, Path("out/bundle")),
            watched="out",
            prepare=old_bundle,
            verdict=old_or_new,
        ),
    ]


def old_or_new(found: Path, old: Path, new: Path) -> str:
    """Exactly one of the two states. A signature differs each time it is made, so only the old one can be compared."""
    states = [visible(folder) for folder in (found, old, new)]
    signature = states[1].get(SIGNATURE)
    for state in states:
        state.update({name: b"old" if state[name] == signature else b"new" for name in {SIGNATURE} & state.keys()})
    state, *allowed = states
    assert state in allowed, sorted(state)
    return "old" if state == allowed[0] else "new"


def run_of_many(found: Path, old: Path, new: Path) -> str:
    """The old result or the new one, complete reports, and a journal as long as there is something to resume."""
    states = [visible(folder) for folder in (found, old, new)]
    journal = states[0].pop(JOURNAL, None)
    reports = [state.pop(REPORT) for state in states]
    assert states[0] in states[1:], sorted(states[0])
    is_new = [states[0] == states[2], reports[0] != reports[1]]
    if is_new[1]:
        counts = [json.loads(report or b"")["counts"] for report in (reports[0], reports[2])]
        assert {**counts[0], "resumed": 0} == counts[1]
    if is_new == [False, False]:
        return "old"
    return "new" if all(is_new) and journal is None else "part"


def some_of_new(found: Path, old: Path, new: Path) -> str:
    """Complete files in the cache, and the old result or the new one."""
    for name, data in visible(found).items():
        assert data in (visible(new)[name], visible(old).get(name)), name
    if set(visible(found)) == set(visible(old)):
        return "old"
    return "new" if visible(found) == visible(new) else "part"


def training(found: Path, _: Path, new: Path) -> str:
    """Check that files are complete and agree with ``last.pth``; in the end they equal an undisturbed training's."""
    folder = found / "out" / "training"
    if not (folder / LAST).exists():
        assert not list(folder.glob("[!.]*"))
        return "old"
    contents = {name: torch.load(folder / name, weights_only=True) for name in (BEST, LAST) if (folder / name).exists()}
    rows, all_rows = metrics(folder), metrics(new / "out" / "training")
    done = contents[LAST]["training"]["epochs_done"]
    assert rows == all_rows[: len(rows)]
    if len(rows) < done or contents.keys() != {BEST, LAST} or not (folder / CURVES).exists():
        return "part"
    assert len(rows) == done
    if done < len(all_rows):
        return "old"
    for name, content in contents.items():
        expected = torch.load(new / "out" / "training" / name, weights_only=True)["state_dict"]
        assert all(torch.equal(content["state_dict"][key], expected[key]) for key in expected)
    return "new"


def metrics(folder: Path) -> list[dict[str, str]]:
    """Rows of the metrics file, without the columns that differ from run to run."""
    if not (folder / METRICS).exists():
        return []
    rows = csv.DictReader((folder / METRICS).read_text().splitlines())
    return [{name: value for name, value in row.items() if name not in NOT_REPRODUCED} for row in rows]


def kill_often(scenario: Scenario, work: Path, kills: int, moments: random.Random) -> list[int]:
    """Kill a command many times, check the folder each time, and count what was found."""
    old, new = work / "old", work / "new"
    for folder in (old, new):
        folder.mkdir()
        scenario.prepare(folder)
    started = time.monotonic()
    changes = finish(scenario.command(new), new, watched=new / scenario.watched)
    duration = time.monotonic() - started
    found: Counter[str] = Counter()
    done = 0
    while done < kills:
        folder = work / "killed"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        scenario.prepare(folder)
        seconds = moments.uniform(LATE, 1) * duration if done % 2 else None
        ended, seen = kill(scenario, folder, seconds=seconds, changes=moments.randint(1, changes))
        if ended:  # the machine has become faster, or fewer changes were seen
            found["ended first"] += 1
            duration, changes = (0.95 * duration, changes) if done % 2 else (duration, max(seen, 1))
            continue
        done += 1
        found[scenario.verdict(folder, old, new)] += 1
        found["left"] += snapshot(folder) != visible(folder)
        started = time.monotonic()
        finish(scenario.command(folder), folder)
        duration = (duration + time.monotonic() - started) / 2
        assert scenario.verdict(folder, old, new) == "new"
        assert snapshot(folder).keys() == snapshot(new).keys()
        left = os.listdir(os.environ["TMPDIR"])
        assert not left, left
    return [found[name] for name in ("old", "new", "part", "left", "ended first")]


def start(command: list[str], folder: Path) -> "subprocess.Popen[bytes]":
    """Start one of our commands."""
    installed = Path(sys.executable).parent / command[0]
    return subprocess.Popen([installed, *command[1:]], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(command: list[str], folder: Path, *, watched: Path | None = None) -> int:
    """Run a command to its end, and count the changes in a folder meanwhile."""
    process = start(command, folder)
    changes = count_changes(process, watched) if watched is not None else 0
    assert process.wait() == 0, command
    return changes


def kill(scenario: Scenario, folder: Path, *, seconds: float | None, changes: int) -> tuple[bool, int]:
    """Run a command in a folder and kill it: after some seconds, or, if they are None, after a number of changes.

    Returns:
        Whether the command had ended before, and the number of changes seen.
    """
    process, seen = start(scenario.command(folder), folder), 0
    if seconds is None:
        seen = count_changes(process, folder / scenario.watched, upto=changes)
    else:
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    ended = process.poll() is not None
    process.kill()
    process.wait()
    return ended, seen


def count_changes(process: "subprocess.Popen[bytes]", folder: Path, upto: int | None = None) -> int:
    """Count how often names or sizes in a folder change, until a process ends or the count is reached."""
    before, seen = list_folder(folder), 0
    while process.poll() is None and (upto is None or seen < upto):
        if (now := list_folder(folder)) != before:
            before, seen = now, seen + 1
    return seen


def list_folder(folder: Path) -> dict[str, int]:
    """A number for each path in a folder, made of size and inode, so that it differs when the file does."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.stat(os.path.join(parent, name))
            except FileNotFoundError:
                continue
            found[os.path.join(parent, name)] = status.st_size * 10**9 + status.st_ino
        found[parent] = 0
    return found


if __name__ == "__main__":
    main()
