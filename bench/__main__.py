"""The entry point of ``stale-bench``."""

from stale_runtime.launch import launch


def main() -> None:
    """Run ``stale-bench``."""
    launch("stale_bench.bench_command", "stale-bench")


if __name__ == "__main__":
    main()
