import os

import pytest

from stale_runtime.system.cpus import wait_passively

SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without any of the settings; after the test, as it was before."""
    for name in SETTINGS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.usefixtures("environment")
def test_threads_sleep_while_they_wait() -> None:
    wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_the_user_has_set_stays(setting: str, environment: pytest.MonkeyPatch) -> None:
    environment.setenv(setting, "ACTIVE")
    wait_passively()
    assert {name: os.environ.get(name) for name in SETTINGS} == dict.fromkeys(SETTINGS) | {setting: "ACTIVE"}
