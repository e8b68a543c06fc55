"""The STALE network."""
