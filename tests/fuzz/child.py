"""Fuzz one reader in a child process, so that a crash, a hang or a memory limit concerns that reader only.

The child reports through files: ``tally.json`` about once a second, ``input`` before each input.
"""

import contextlib
import importlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fuzz.target import Target
    from tests.fuzz.watch import Watch

TALLY, INPUT, LOG = "tally.json", "input", "log"
_EVERY_S = 1.0
_LONGEST = 16384
"""The largest input, in bytes, that coverage-guided fuzzing makes."""
_OWN_PACKAGES = ["stale_runtime", "stale_model"]
_OTHER_PARSERS = [
    "csv",
    "json.scanner",
    "json.decoder",
    "json",
    "numpy.lib._format_impl",
    "numpy.lib.format",
    "zipfile",
]
_OTHER_PARSERS += ["torch._weights_only_unpickler"]
"""The code whose coverage guides the fuzzing: our packages, and single modules of other parsers."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a child process is to do."""

    target: str
    engine: str
    """``atheris``: guided by coverage; ``seeded``: not guided, and the same inputs every time."""
    inputs: int
    """The largest number of inputs."""
    seconds: float
    """The longest time to run."""
    seed: int
    work: str
    """Folder for the reader's files, the tally and the current input; best in memory."""
    corpus: str
    """Folder of inputs that reached new code, kept for the next run; not used by ``seeded``."""
    findings: str
    """Folder for the inputs that are findings."""

    def to_json(self) -> str:
        """The plan as the child's argument."""
        return json.dumps(asdict(self))


class Loop:
    """Feeds inputs until the plan is fulfilled, and writes the tally."""

    def __init__(self, plan: Plan, watch: "Watch") -> None:
        self._plan = plan
        self._watch = watch
        self._work = Path(plan.work)
        self._input = os.open(self._work / INPUT, os.O_RDWR | os.O_CREAT, 0o600)
        self._end = time.monotonic() + plan.seconds
        self._next_s = 0.0

    def feed(self, data: bytes) -> bool:
        """Feed an input; return whether to go on."""
        os.pwrite(self._input, len(data).to_bytes(8, "little") + data, 0)
        self._watch.feed(data)
        now = time.monotonic()
        done = self._watch.tally.inputs >= self._plan.inputs or now >= self._end
        if done or now >= self._next_s:
            self._next_s = now + _EVERY_S
            part = self._work / "tally.part"
            part.write_text(json.dumps({**self._watch.tally.to_dict(), "done": done}))
            part.replace(self._work / TALLY)
        return not done


def read_last_input(work: Path) -> bytes:
    """The input that a child was reading when it ended."""
    held = (work / INPUT).read_bytes()
    return held[8 : 8 + int.from_bytes(held[:8], "little")]


def seeded_inputs(target: "Target", name: str, seed: int) -> Iterator[bytes]:
    """The seeds, then changed ones without end; equal arguments give equal inputs."""
    yield from target.seeds
    dice = Random(f"{name} {seed}")
    while True:
        data = dice.choice(target.seeds)
        for _ in range(dice.choice((1, 1, 2, 3))):
            data = target.mutate(data, dice)
        yield data


def main(plan: Plan) -> None:
    """Carry out a plan."""
    guided = plan.engine == "atheris"
    with _instrumented() if guided else contextlib.nullcontext():
        from tests.fuzz.targets import find_target
        from tests.fuzz.watch import Watch, limit_memory

        folder = Path(plan.work) / "files"
        folder.mkdir()
        target = find_target(plan.target)(folder)
        for seed in target.seeds:  # load what a reader imports late, before memory is limited
            with contextlib.suppress(Exception):
                target.run(seed)
    warnings.simplefilter("error")
    limit_memory()
    loop = Loop(plan, Watch(target.run, Path(plan.findings)))
    if guided:
        _run_guided(plan, target, loop.feed)
    for data in seeded_inputs(target, plan.target, plan.seed):
        if not loop.feed(data):
            return


def _instrumented() -> "contextlib.AbstractContextManager[Any]":
    """Instrument other parsers now, and within the context our own packages as they are imported."""
    import atheris

    parsers = [importlib.import_module(name) for name in _OTHER_PARSERS]
    with atheris.instrument_imports(
        include=_OTHER_PARSERS
    ):  # modules loaded before are not instrumented, hence the reload
        for module in parsers:
            importlib.reload(module)
    manager: contextlib.AbstractContextManager[Any] = atheris.instrument_imports(include=_OWN_PACKAGES)
    return manager


def _run_guided(plan: Plan, target: "Target", feed: Callable[[bytes], bool]) -> None:
    """Fuzz guided by coverage; this ends the process."""
    import atheris

    def read(data: bytes) -> None:
        if not feed(data):
            sys.stdout.flush()
            os._exit(0)  # libFuzzer does not return

    def change(data: bytes, most: int, seed: int) -> bytes:
        dice = Random(seed)
        changed: bytes = atheris.Mutate(data, most) if dice.random() < 0.3 else target.mutate(data, dice)
        return changed[:most]

    corpus = Path(plan.corpus)
    corpus.mkdir(parents=True, exist_ok=True)
    for n, seed in enumerate(target.seeds):
        (corpus / f"seed-{n}").write_bytes(seed)
    options = [f"-seed={plan.seed + 1}", f"-max_len={_LONGEST}", "-len_control=0", "-rss_limit_mb=0", "-timeout=1000"]
    atheris.Setup([plan.target, str(corpus), *options, f"-artifact_prefix={plan.work}/"], read, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main(Plan(**json.loads(sys.argv[1])))
