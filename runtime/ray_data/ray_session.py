"""A connection to Ray: to the cluster that was named, else to a private Ray on this machine."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from stale_runtime.system.cpus import available_threads


@contextmanager
def connected_to_ray(*, object_store_bytes: int) -> Iterator[int]:
    """Connect to the cluster of ``$RAY_ADDRESS``, as in a job of that cluster, else start Ray here for the block.

    Ray here sends no statistics, has no dashboard, and does not join another Ray on this machine. Batches whose
    process was killed ``MOST_ATTEMPTS`` times are left out instead of ending the run.

    Args:
        object_store_bytes: memory for what processes hand on, of a Ray that is started here.

    Yields:
        How many CPUs it has.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its errors are for its own developers; Python's remain
    import ray
    from ray.data import DataContext

    on_termination = signal.getsignal(signal.SIGTERM)  # Ray replaces it
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=logging.WARNING)
    else:
        ray.init(
            address="local",
            num_cpus=available_threads(),
            object_store_memory=object_store_bytes,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    try:
        signal.signal(signal.SIGTERM, on_termination)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = DataContext.get_current()
        context.enable_progress_bars = False  # ours counts videos
        context.max_errored_blocks = -1
        yield max(int(ray.cluster_resources().get("CPU", 0)), 1)
    finally:
        ray.shutdown()
