import subprocess
import sys

import pytest

import stale_bench


def test_every_public_name_is_there_and_documented() -> None:
    assert stale_bench.__all__ == sorted(stale_bench.__all__)
    for name in stale_bench.__all__:
        value = getattr(stale_bench, name)
        assert name == "BACKENDS" or value.__doc__


def test_a_name_that_is_not_public_is_not_there() -> None:
    with pytest.raises(AttributeError, match="'stale_bench' has no attribute 'no_such_name'"):
        _ = stale_bench.no_such_name


def test_the_command_starts_without_anything_heavy() -> None:
    heavy = ("torch", "transformers", "onnxruntime", "matplotlib", "psutil")
    code = f"import stale_bench.bench_command, sys; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_every_public_name_is_listed() -> None:
    assert set(stale_bench.__all__) <= set(dir(stale_bench))
