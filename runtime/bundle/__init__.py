"""What stale-export writes: opening it, checking it, and reading its files."""
