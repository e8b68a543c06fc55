"""``python -m stale_runtime`` is ``stale-run``."""

from stale_runtime.launch import stale_run

if __name__ == "__main__":
    stale_run()
