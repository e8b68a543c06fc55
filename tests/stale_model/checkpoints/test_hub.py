from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from types import SimpleNamespace
from typing import NoReturn

import huggingface_hub.constants
import pytest

from stale_export.vision_tower import read_vision_tower
from stale_model.checkpoints import hub
from stale_model.checkpoints.clip import read_clip_parts
from stale_runtime.errors import CheckpointError

ID = "someone/some-clip"
LONGEST_S = 10
"""Seconds that a user has to wait, at most."""


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing is known about the network, nothing was downloaded, and Hugging Face's library must not be asked."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    hub._find_problem.cache_clear()
    yield
    hub._find_problem.cache_clear()


def answer(patch: pytest.MonkeyPatch, status: int | Exception) -> list[str]:
    """Let Hugging Face answer in this way; the list gets each question."""
    asked: list[str] = []

    def head(url: str, *, timeout: float) -> SimpleNamespace:
        asked.append(url)
        assert 0 < timeout < LONGEST_S
        if isinstance(status, Exception):
            raise status
        return SimpleNamespace(status_code=status)

    patch.setattr(hub, "get_session", lambda: SimpleNamespace(head=head))
    return asked


@pytest.mark.parametrize("option", ["--clip", "--vision"])
def test_an_id_out_of_reach_is_refused_with_what_a_folder_needs(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, OSError("Name or service not known"))
    with pytest.raises(CheckpointError) as error:
        read_clip_parts(ID) if option == "--clip" else read_vision_tower(ID)
    said = str(error.value)
    assert said.startswith(f"{option} {ID}: there is no such folder here, huggingface.co cannot be reached (Name or ")
    assert f"give {option} FOLDER with config.json, " in said
    assert "model.safetensors, which this gets where there is a network: hf download someone/some-clip --inc" in said
    assert asked == ["https://huggingface.co"]  # once, however many files are looked for


def test_a_network_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    waited_s: list[float] = []

    class Silence:
        """Nothing is ever in this queue, and the test need not wait for that."""

        def get(self, *, timeout: float) -> NoReturn:
            waited_s.append(timeout)
            raise Empty

        def put(self, _: object) -> None:
            """Somebody answers after that."""

    answer(monkeypatch, 200)
    monkeypatch.setattr(hub, "Queue", Silence)
    with pytest.raises(CheckpointError, match=r"cannot be reached \(no answer within \d s\)"):
        read_clip_parts(ID)
    (patience_s,) = waited_s
    assert 0 < patience_s < LONGEST_S


@pytest.mark.parametrize(("status", "here_only"), [(200, False), (404, False), (407, False), (502, True), (503, True)])
def test_an_answer_is_as_good_as_files_unless_a_gateway_gave_it(
    status: int, here_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, status)
    assert hub.is_here_only(ID) is here_only


def test_nobody_is_asked_about_a_folder_or_what_is_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, 200)
    assert hub.is_here_only(str(tmp_path))
    assert not hub.is_here_only("a/b/c")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert hub.is_here_only(ID)
    assert asked == []


def test_a_damaged_file_is_not_taken_for_a_missing_network(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, OSError("no network"))
    hub.refuse_out_of_reach(ID, ValueError("not JSON"), option="--clip", files="x")
