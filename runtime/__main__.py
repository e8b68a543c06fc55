"""``python -m stale_runtime``: the same as ``stale-run``."""

from stale_runtime.launch import stale_run

stale_run()
