"""Feed a reader, and judge what it does: how it ends, how long it takes, and how much memory it asks for."""

import hashlib
import resource
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stale_runtime.errors import StaleError

SLOWEST_S = 2.0
MOST_BYTES = 2**30
_SUSPICIOUS_S = 0.2
"""Slower inputs are read again and the best time counts, since other processes may have slowed the first."""


@dataclass(kw_only=True)
class Tally:
    """What one reader has done so far."""

    inputs: int = 0
    results: int = 0
    refused: int = 0
    slowest_ms: float = 0.0
    peak_mb: float = 0.0
    """Resident memory of the whole process."""
    findings: dict[str, str] = field(default_factory=dict)
    """Each kind of problem, with the file that causes it."""

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)


class Watch:
    """Feeds inputs to a reader, and keeps the first input of each kind of finding as a file."""

    def __init__(self, run: Callable[[bytes], object], kept: Path, *, slowest_s: float = SLOWEST_S) -> None:
        """Watch a reader.

        Args:
            run: calls the reader, see ``Target.run``.
            kept: folder for findings, created with the first.
            slowest_s: seconds that an input may take.
        """
        self.tally = Tally()
        self._slowest_s = slowest_s
        self._run = run
        self._kept = kept

    def feed(self, data: bytes) -> str | None:
        """Read an input; return what was wrong with the way the reader handled it, or None."""
        started = time.perf_counter()
        found = self._read(data)
        elapsed = time.perf_counter() - started
        if elapsed > _SUSPICIOUS_S:
            for _ in range(2):
                started = time.perf_counter()
                self._read(data)
                elapsed = min(elapsed, time.perf_counter() - started)
        self.tally.inputs += 1
        self.tally.slowest_ms = max(self.tally.slowest_ms, 1000 * elapsed)
        self.tally.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if isinstance(found, StaleError):
            self.tally.refused += 1
        elif found is None:
            self.tally.results += 1
        problem = _problem(found)
        if problem is None and elapsed > self._slowest_s:
            problem = f"slower than {self._slowest_s} s"
        if problem is not None:
            keep(data, problem, self.tally, self._kept)
        return problem

    def _read(self, data: bytes) -> BaseException | None:
        """Read an input; return None for a result, otherwise what was raised."""
        try:
            return None if self._run(data) is not None else StaleError("counted as absent")
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as problem:  # a panic in Rust is not an Exception
            return problem


def keep(data: bytes, problem: str, tally: Tally, kept: Path) -> None:
    """Write the first input of each kind of finding to a file named by its hash."""
    if problem in tally.findings:
        return
    kept.mkdir(parents=True, exist_ok=True)
    path = kept / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    tally.findings[problem] = str(path)


def limit_memory(most: int = MOST_BYTES) -> None:
    """Limit how many bytes of address space this process may take beyond those that it has (Linux only)."""
    status = Path("/proc/self/statm")
    if status.exists():
        held = int(status.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _problem(found: BaseException | None) -> str | None:
    cause: BaseException | None = found
    while cause is not None:
        if isinstance(cause, MemoryError) or "allocate memory" in str(cause) or "bad allocation" in str(cause):
            return f"more than {MOST_BYTES:,} bytes wanted, at {_place(cause)}"
        cause = cause.__cause__ or cause.__context__
    if found is not None and not isinstance(found, StaleError):
        return f"{type(found).__name__} at {_place(found)}"
    return None


def _place(problem: BaseException) -> str:
    frames = traceback.extract_tb(problem.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"
