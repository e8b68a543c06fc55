"""The entry point of ``stale-train``, which can also say that PyTorch is not installed."""

import sys

from stale_runtime.launch import launch

NAME = "stale-train"


def main() -> None:
    """Run ``stale-train``."""
    try:
        launch("stale_model.train_command", NAME)
    except ModuleNotFoundError as problem:
        from stale_runtime.terminal import console

        console.note(NAME, f"error: needs {problem.name}; install it with: pip install 'stale-edge[train]'")
        sys.exit(console.BUG)


if __name__ == "__main__":
    main()
