"""A captured stderr that says it is a terminal."""

import pytest


def use_terminal(patch: pytest.MonkeyPatch, kind: str = "xterm") -> None:
    """Let the captured stderr be a terminal. It has 80 columns, since it cannot be asked.

    Args:
        patch: undoes it.
        kind: the value of ``TERM``.
    """
    patch.setattr("sys.stderr.isatty", lambda: True)
    patch.setenv("TERM", kind)
