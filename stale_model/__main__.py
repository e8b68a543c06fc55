"""The entry point of ``stale-train``, also as ``python -m stale_model`` and ``torchrun -m stale_model``."""

from stale_runtime.launch import launch


def main() -> None:
    """Run ``stale-train``."""
    launch("stale_model.train_command", "stale-train")


if __name__ == "__main__":
    main()
