import threading
from contextlib import suppress

import pytest

from stale_runtime.errors import TimeLimitError
from stale_runtime.system import long_calls
from stale_runtime.system.long_calls import give_up_with, stop_calls, stoppable, time_limit


class Call:
    """A call that fails once it is stopped."""

    def __init__(self) -> None:
        self.stopped = threading.Event()

    def run(self) -> None:
        with stoppable(self.stopped.set):
            assert self.stopped.wait(10)
            raise RuntimeError("stopped")


def test_a_call_ends_with_its_time_limit() -> None:
    with (
        pytest.raises(TimeLimitError, match=r"^video: took longer than the limit of 0\.01 s"),
        time_limit(0.01, "video"),
    ):
        Call().run()


def test_no_call_begins_after_the_limit() -> None:
    began = []

    def run_two() -> None:
        with suppress(TimeLimitError):
            Call().run()
        with stoppable(lambda: None):
            began.append(True)

    with pytest.raises(TimeLimitError), time_limit(0.01, "video"):
        run_two()
    assert not began


def test_a_limit_is_that_of_its_block_and_thread_only() -> None:
    with pytest.raises(TimeLimitError), time_limit(0.01, "video"):
        Call().run()
    with stoppable(lambda: None):
        pass
    other = Call()
    failed: list[BaseException] = []

    def run_other() -> None:
        try:
            other.run()
        except BaseException as problem:
            failed.append(problem)

    thread = threading.Thread(target=run_other)
    thread.start()
    with pytest.raises(TimeLimitError), time_limit(0.01, "video"):
        Call().run()
    assert not other.stopped.is_set()
    other.stopped.set()
    thread.join()
    assert [str(problem) for problem in failed] == ["stopped"]


def test_a_failure_that_nobody_asked_for_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match=r"^its own$"), time_limit(60, "video"), stoppable(lambda: None):
        raise RuntimeError("its own")


def test_stopping_says_whether_a_call_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_calls, "PATIENCE_S", 0.01)
    assert not stop_calls()
    with stoppable(lambda: None):
        assert stop_calls()


def test_what_does_not_stop_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_calls, "PATIENCE_S", 0.01)
    given_up = threading.Event()
    said: list[str] = []

    def give_up(text: str) -> None:
        said.append(text)
        given_up.set()

    give_up_with(give_up)
    try:
        with time_limit(0.01, "video"), stoppable(lambda: None):
            assert given_up.wait(10)
    finally:
        give_up_with(None)
    assert said[0].startswith("video: took longer than the limit of 0.01 s")
