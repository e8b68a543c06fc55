"""The entry point of ``stale-bench``."""

from stale_runtime.launch import launch


def main() -> None:
    """Run ``stale-bench``."""
    launch("stale_bench.cli", "stale-bench")
