"""The entry point of ``stale-export``."""

from stale_runtime.launch import launch


def main() -> None:
    """Run ``stale-export``."""
    launch("stale_export.export_command", "stale-export")


if __name__ == "__main__":
    main()
