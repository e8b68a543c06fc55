"""How many worker processes a command starts."""

from typing import Literal

from stale_runtime.errors import OutOfMemoryError
from stale_runtime.system.cpus import available_threads
from stale_runtime.system.memory import fitting_processes
from stale_runtime.terminal import console
from stale_runtime.terminal.options import MOST_WORKERS

_MEGABYTE = 2**20


def count_workers(name: str, asked: int | Literal["auto"], *, tasks: int, threads: int, each: int) -> int:
    """How many processes work at once: as many as were asked for, unless there are fewer tasks.

    Args:
        name: the command's name, which messages begin with.
        asked: ``auto`` for one for each CPU that this process may use, or fewer if memory does not suffice for that.
        tasks: how many can be worked on at once.
        threads: CPU threads of each worker.
        each: bytes of memory that a worker takes at least.

    Raises:
        OutOfMemoryError: there is not enough memory for the number that was asked for.
    """
    wanted = min(asked if asked != "auto" else available_threads() // threads, tasks, MOST_WORKERS)
    fitting = fitting_processes(each) if wanted > 1 else None
    if fitting is None or wanted <= fitting[0]:
        return max(wanted, 1)
    count, limited_by = fitting
    text = (
        f"{wanted} workers of at least {each / _MEGABYTE:,.0f} MB of memory each are more than fit into what is left "
    )
    text += f"by {limited_by}"
    if asked == "auto":
        console.note(name, f"{text}; {max(count, 1)} {'works' if count < 2 else 'work'} instead")
        return max(count, 1)
    remedy = f"give --workers {count}" if count > 1 else "leave out --workers"
    raise OutOfMemoryError(f"--workers {asked}: {text}; {remedy}, or end other programs")
