"""The exit codes that all commands share, and what they mean."""

from typing import Final

DONE: Final = 0
INCOMPLETE: Final = 1
USAGE: Final = 2
BAD_INPUT: Final = 3
BAD_BUNDLE: Final = 4
SOME_FAILED: Final = 5
MISSING_PACKAGE: Final = 6
LIMIT_MISSED: Final = 7
HUNG_UP: Final = 129
INTERRUPTED: Final = 130
TERMINATED: Final = 143
"""These three are 128 plus the number of the signal, as in a shell."""

MEANINGS: Final = {
    DONE: "done",
    INCOMPLETE: "the work could not be completed, or a bug in stale-edge",
    USAGE: "wrong usage, a backend that this machine lacks, or an output that cannot be written",
    BAD_INPUT: "bad input, or not enough memory for it",
    BAD_BUNDLE: "bad bundle",
    SOME_FAILED: "some inputs failed, and the results of the others are written",
    MISSING_PACKAGE: "a package is missing, and the message says how to install it",
    LIMIT_MISSED: "a measured result missed its limit",
    HUNG_UP: "ended by SIGHUP",
    INTERRUPTED: "interrupted with Ctrl-C",
    TERMINATED: "ended by SIGTERM",
}
"""What each exit code means, as the help of the commands says it."""
_ALWAYS = (DONE, INCOMPLETE, USAGE, BAD_INPUT, HUNG_UP, INTERRUPTED, TERMINATED)


def describe_exit_codes(*others: int) -> str:
    """The end of a command's help: its exit codes.

    Args:
        others: codes that only some commands have, such as ``SOME_FAILED``.
    """
    codes = sorted({*_ALWAYS, *others})
    return f"Exit codes: {'; '.join(f'{code} {MEANINGS[code]}' for code in codes)}."
