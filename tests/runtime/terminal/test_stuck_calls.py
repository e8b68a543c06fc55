"""Commands end even if a library computes and does not notice anything."""

import signal
import subprocess
import sys

import pytest

from tests.cli.command import interruptible

CODE = """
import hashlib, signal, sys
from stale_runtime.system import long_calls
from stale_runtime.terminal.stuck_calls import end_stuck_calls

long_calls.PATIENCE_S = 0.1
signal.signal(signal.SIGINT, lambda *_: None)  # which raises nothing if it comes before the computation
limit = None if len(sys.argv) == 1 else float(sys.argv[1])
with end_stuck_calls("stale-run"), long_calls.time_limit(limit, "v.mp4"), long_calls.stoppable(lambda: None):
    print("computing", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # for half an hour, without looking at signals
"""


def start(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", CODE, *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "computing\n"
    return process


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGINT, "interrupted"), (signal.SIGHUP, None), (signal.SIGUSR1, None)]
)
def test_a_signal_ends_what_does_not_stop(number: signal.Signals, said: str | None) -> None:
    process = start()
    process.send_signal(number)
    _, printed = process.communicate(timeout=60)
    if said is None:  # nobody handles it, so the system ends the process
        assert (process.returncode, printed) == (-number, "")
        return
    assert process.returncode == 128 + number
    assert printed == (
        f"stale-run: error: {said} in a computation that could not be stopped; leftovers are removed by the next run\n"
    )


def test_a_time_limit_ends_what_does_not_stop() -> None:
    _, printed = start("0.1").communicate(timeout=60)
    assert printed.startswith("stale-run: error: v.mp4: took longer than the limit of 0.1 s; allow more (--timeout)")
    assert printed.count("\n") == 1
