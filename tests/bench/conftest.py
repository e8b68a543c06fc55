from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _workers_find_the_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers do not look in the working directory, where a user's files are."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
