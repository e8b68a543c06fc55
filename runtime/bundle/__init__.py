"""Bundles, which ``stale-export`` writes: opening, checking and reading them."""
