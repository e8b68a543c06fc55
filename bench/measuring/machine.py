"""The machine that is measured on, and the CPUs that workers stay on."""

import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stale_runtime.errors import BenchmarkError
from stale_runtime.system.files import reason

PACKAGES = ("stale-edge", "numpy", "onnxruntime", "tokenizers")
_CPUINFO = Path("/proc/cpuinfo")
_BOARD = Path("/sys/firmware/devicetree/base/model")
_GOVERNOR = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"


def choose_cpus(threads: int) -> tuple[int, ...]:
    """Choose the CPUs that workers stay on: the last ones allowed, because interrupts prefer the first.

    Args:
        threads: how many CPUs.

    Returns:
        Their numbers; empty if the system cannot pin a process.

    Raises:
        BenchmarkError: too few CPUs are allowed, or this process may not choose among them.
    """
    if not hasattr(os, "sched_setaffinity"):
        return ()
    allowed = os.sched_getaffinity(0)
    if len(allowed) < threads:
        numbers = ", ".join(map(str, sorted(allowed))) or "none"
        raise BenchmarkError(
            f"--threads {threads} needs {threads} CPUs, but this process may run on {len(allowed)} ({numbers}); give "
            "fewer threads, or allow this process more CPUs (taskset, cpuset)"
        )
    cpus = tuple(sorted(allowed)[-threads:])
    try:
        os.sched_setaffinity(0, cpus)
        os.sched_setaffinity(0, allowed)
    except OSError as problem:
        raise BenchmarkError(
            f"this process cannot be kept on CPU {', '.join(map(str, cpus))}: {reason(problem)}; run it where "
            "sched_setaffinity is allowed"
        ) from problem
    return cpus


def describe_machine(cpus: Sequence[int]) -> dict[str, Any]:
    """Describe what affects the speed of this machine, as far as the system tells.

    Model and flags are read from ``/proc/cpuinfo``: py-cpuinfo starts several processes and takes a second for them.
    """
    info = _cpuinfo()
    model = info.get("model name") or _read(_BOARD) or info.get("Hardware") or platform.processor() or "unknown"
    flags = (info.get("flags") or info.get("Features") or "").split()
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "cpu": model,
        "flags": sorted(flags),
        "cores": os.cpu_count(),
        "affinity": affinity,
        "governor": sorted({_read(Path(_GOVERNOR.format(cpu))) or "unknown" for cpu in cpus}),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def describe_versions(libraries: Iterable[str]) -> dict[str, str]:
    """Versions of Python, of the runtime's packages, and of the other packages that the backends use."""
    found = {"python": platform.python_version()}
    for package in dict.fromkeys((*PACKAGES, *libraries)):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpuinfo() -> dict[str, str]:
    """The fields of the first CPU."""
    found: dict[str, str] = {}
    for line in (_read(_CPUINFO) or "").splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    return found


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0 \n") or None
    except OSError:
        return None
