"""How long and how often object storage is asked."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FetchLimits:
    """How long and how often a storage is asked."""

    connect_s: float = 10.0
    """Most seconds until a connection is there."""
    read_s: float = 20.0
    """Most seconds without a byte."""
    request_s: float = 60.0
    """Most seconds for a file in all, and for what is asked about it; more for a large one, see ``slowest``."""
    listing_s: float = 300.0
    """Most seconds for the list of a folder."""
    slowest: float = 2**18
    """Bytes a second; a file gets as many more seconds as it takes with that."""
    attempts: int = 4
    """How often is tried what may be temporary."""
    pause_s: float = 0.5
    """Seconds before the second attempt; they double with each further one, and vary by a half."""


USUAL_LIMITS = FetchLimits()
