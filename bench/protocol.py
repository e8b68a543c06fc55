"""What a benchmark tells its workers, a line of JSON each way. Light: a worker reads it before its clock starts."""

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker is started for."""

    backend: str
    engine: str
    """``module:Class`` of the ``stale_bench.engines.engine.Engine`` that runs it."""
    bundle: str
    """The bundle's folder."""
    length: int
    """T in snippets."""
    classes: tuple[str, ...]
    """K class names, without the prompt template."""
    threads: int
    """Threads an operator may use."""
    cpus: tuple[int, ...]
    """CPUs the worker stays on; empty where the system cannot pin."""
    seed: int
    """Of random features, and of the weights of networks that have no trained ones."""
    features: str | None
    """The feature file of the video that is timed; None for a random one."""
    cache: str
    """Folder of the prompt cache."""

    def to_line(self) -> str:
        """One line of JSON."""
        return to_line(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> "Job":
        """What ``to_line`` wrote."""
        content = json.loads(line)
        return cls(**{**content, "classes": tuple(content["classes"]), "cpus": tuple(content["cpus"])})


def to_line(message: dict[str, Any]) -> str:
    """A message as one line."""
    return json.dumps(message, ensure_ascii=True) + "\n"
