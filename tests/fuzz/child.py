"""One reader fuzzed in a process of its own, so that a crash, a hang or a memory limit is that reader's alone.

Says how far it is by writing files: ``tally.json`` now and then, ``input`` before each input.
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
"""Bytes of an input that coverage-guided fuzzing makes."""
_OURS = ["stale_runtime", "stale_model"]
_THEIRS = ["csv", "json.scanner", "json.decoder", "json", "numpy.lib._format_impl", "numpy.lib.format", "zipfile"]
_THEIRS += ["torch._weights_only_unpickler"]
"""Modules whose coverage guides: packages of ours, and the parsers of others, one by one."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a process is to do."""

    target: str
    engine: str
    """``atheris``: guided by coverage; ``seeded``: blind, and the same inputs every time."""
    inputs: int
    """How many, at most."""
    seconds: float
    """How long, at most."""
    seed: int
    work: str
    """Folder for the reader's files, the tally and the input at hand; best in memory."""
    corpus: str
    """Folder of inputs that reached something new, kept for the next time; not used by ``seeded``."""
    findings: str
    """Folder for inputs that are findings."""

    def to_json(self) -> str:
        """As the process is given it."""
        return json.dumps(asdict(self))


class Loop:
    """Feeds inputs until there have been enough, and writes down how it goes."""

    def __init__(self, plan: Plan, watch: "Watch") -> None:
        self._plan = plan
        self._watch = watch
        self._work = Path(plan.work)
        self._input = os.open(self._work / INPUT, os.O_RDWR | os.O_CREAT, 0o600)
        self._end = time.monotonic() + plan.seconds
        self._next_s = 0.0

    def feed(self, data: bytes) -> bool:
        """Feed an input; whether there may be more."""
        os.pwrite(self._input, len(data).to_bytes(8, "little") + data, 0)
        self._watch.feed(data)
        now = time.monotonic()
        done = self._watch.tally.inputs >= self._plan.inputs or now >= self._end
        if done or now >= self._next_s:
            self._next_s = now + _EVERY_S
            part = self._work / "tally.part"
            part.write_text(json.dumps({**self._watch.tally.plain(), "done": done}))
            part.replace(self._work / TALLY)
        return not done


def input_at_hand(work: Path) -> bytes:
    """The input that a process was reading when it ended."""
    held = (work / INPUT).read_bytes()
    return held[8 : 8 + int.from_bytes(held[:8], "little")]


def seeded_inputs(target: "Target", name: str, seed: int) -> Iterator[bytes]:
    """The seeds, then changed ones without end; the same ones for the same arguments."""
    yield from target.seeds
    dice = Random(f"{name} {seed}")
    while True:
        data = dice.choice(target.seeds)
        for _ in range(dice.choice((1, 1, 2, 3))):
            data = target.mutate(data, dice)
        yield data


def main(plan: Plan) -> None:
    """Do what a plan says."""
    guided = plan.engine == "atheris"
    with _instrumented() if guided else contextlib.nullcontext():
        from tests.fuzz.targets import find_target
        from tests.fuzz.watch import Watch, limit_memory

        folder = Path(plan.work) / "files"
        folder.mkdir()
        target = find_target(plan.target)(folder)
        for seed in target.seeds:  # modules that a reader loads late are loaded, and count for nothing
            with contextlib.suppress(Exception):
                target.run(seed)
    warnings.simplefilter("error")
    limit_memory()
    loop = Loop(plan, Watch(target.run, Path(plan.findings)))
    if guided:
        _guided(plan, target, loop.feed)
    for data in seeded_inputs(target, plan.target, plan.seed):
        if not loop.feed(data):
            return


def _instrumented() -> "contextlib.AbstractContextManager[Any]":
    """Instrument others' parsers, and in the context what is imported of ours."""
    import atheris

    theirs = [importlib.import_module(name) for name in _THEIRS]
    with atheris.instrument_imports(include=_THEIRS):  # of all their packages: what is loaded already is left alone
        for module in theirs:
            importlib.reload(module)
    manager: contextlib.AbstractContextManager[Any] = atheris.instrument_imports(include=_OURS)
    return manager


def _guided(plan: Plan, target: "Target", feed: Callable[[bytes], bool]) -> None:
    """Fuzz with coverage as the guide; ends the process."""
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
