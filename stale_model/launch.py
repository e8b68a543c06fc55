"""The entry point of ``stale-train``, which can also say that PyTorch is not installed."""

import sys

from stale_runtime import console

NAME = "stale-train"


def main() -> None:
    """Run ``stale-train``."""
    try:
        from stale_model.cli import main as run
    except ModuleNotFoundError as problem:
        console.note(NAME, f"error: needs {problem.name}; install it with: pip install 'stale-edge[train]'")
        sys.exit(console.BUG)
    run()
