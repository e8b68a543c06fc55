"""The type of the function that the stages of an export report to."""

from collections.abc import Callable

Say = Callable[[str], None]
"""Called with one line about each step; ``stale-export`` prints it on stderr."""
