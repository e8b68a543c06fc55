"""``python -m stale_runtime`` is ``stale-run``."""

from stale_runtime.launch import start_run

if __name__ == "__main__":
    start_run()
