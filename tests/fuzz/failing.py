"""Readers that do what no reader may, for the tests of the watch."""

import os
from pathlib import Path
from random import Random

from stale_runtime.errors import DatasetError
from tests.fuzz.target import Target


def wrong(folder: Path) -> Target:
    """Raises what is none of our errors."""

    def run(data: bytes) -> object:
        if data == b"3":
            raise KeyError("a bug")
        raise DatasetError("refused")

    return _counting(run)


def greedy(folder: Path) -> Target:
    """Wants four gigabytes, and says that the input was wrong."""

    def run(data: bytes) -> object:
        try:
            return len(bytearray(2**32)) if data == b"3" else data
        except Exception as problem:
            raise DatasetError("refused") from problem

    return _counting(run)


def crashing(folder: Path) -> Target:
    """Ends the process."""

    def run(data: bytes) -> object:
        if data == b"3":
            os.abort()
        return data

    return _counting(run)


def _counting(run: object) -> Target:
    def more(data: bytes, dice: Random) -> bytes:
        return str(int(data or b"0") + 1).encode()

    assert callable(run)
    return Target(seeds=(b"0",), run=run, mutate=more)
