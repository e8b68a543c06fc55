"""A connection to Ray: to the cluster that was named, else to a private Ray on this machine."""

import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from stale_runtime.errors import BackendError
from stale_runtime.system.cpus import available_threads


class RayResources(NamedTuple):
    """What Ray may use, on all its machines."""

    cpus: int
    gpus: float

    def most_actors(self, num_gpus: float) -> int:
        """How many actors may work at once, if each takes a CPU and so many GPUs.

        Raises:
            BackendError: there are not enough GPUs for one.
        """
        if not num_gpus:
            return self.cpus
        if self.gpus < num_gpus:
            raise BackendError(
                f"--gpus-per-actor {num_gpus:g}: Ray has {self.gpus:g} GPUs; start it on machines with more, or leave "
                "this option out"
            )
        return min(self.cpus, int(self.gpus / num_gpus))


@contextmanager
def connected_to_ray(*, object_store_bytes: int) -> Iterator[RayResources]:
    """Connect to the cluster of ``$RAY_ADDRESS``, as in a job of that cluster, else start Ray here for the block.

    Ray here sends no statistics, has no dashboard, and does not join another Ray on this machine. Batches whose
    process was killed ``MOST_ATTEMPTS`` times are left out instead of ending the run.

    Args:
        object_store_bytes: memory for what processes hand on, of a Ray that is started here.

    Yields:
        What it has.
    """
    cluster = os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not cluster:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else it warns of what Ray Data always does
    import ray
    from ray.data import DataContext

    on_termination = signal.getsignal(signal.SIGTERM)  # Ray replaces it
    if cluster:
        ray.init(logging_level=logging.ERROR)
    else:
        ray.init(
            address="local",
            num_cpus=available_threads(),
            object_store_memory=object_store_bytes,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        signal.signal(signal.SIGTERM, on_termination)
        warnings.filterwarnings("ignore", "`ray_remote_args_fn` is deprecated")  # in 2.64, which setup.cfg leaves out
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        context = DataContext.get_current()
        context.enable_progress_bars = False  # ours counts videos
        context.max_errored_blocks = -1
        resources = ray.cluster_resources()
        yield RayResources(cpus=max(int(resources.get("CPU", 0)), 1), gpus=resources.get("GPU", 0))
    finally:
        ray.shutdown()
