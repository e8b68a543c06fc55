"""Readers that do what no reader may do, for the tests of the fuzzing itself."""

import os
from pathlib import Path
from random import Random

from stale_runtime.errors import DatasetError
from tests.fuzz.target import Target


def wrong(_: Path) -> Target:
    """Raises an error that is not one of ours."""

    def run(data: bytes) -> object:
        if data == b"3":
            raise KeyError("a bug")
        raise DatasetError("refused")

    return _count_up(run)


def greedy(_: Path) -> Target:
    """Asks for four gigabytes, and then refuses the input."""

    def run(data: bytes) -> object:
        try:
            return len(bytearray(2**32)) if data == b"3" else data
        except Exception as problem:
            raise DatasetError("refused") from problem

    return _count_up(run)


def crashing(_: Path) -> Target:
    """Aborts the process."""

    def run(data: bytes) -> object:
        if data == b"3":
            os.abort()
        return data

    return _count_up(run)


def _count_up(run: object) -> Target:
    """A target whose inputs are 0, 1, 2 and so on."""

    def add_one(data: bytes, _: Random) -> bytes:
        return str(int(data or b"0") + 1).encode()

    assert callable(run)
    return Target(seeds=(b"0",), run=run, mutate=add_one)
