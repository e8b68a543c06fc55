import fcntl
import resource
from pathlib import Path

import pytest

from stale_runtime.batch.journal import FileState, Journal, file_state
from stale_runtime.detections import Detection, VideoDetections
from stale_runtime.errors import JournalError
from tests.runtime.helpers import make_fifo, no_waiting

SETTINGS = {"length": 16, "backend": "ort-fp32"}
STATE = FileState(10, 20)


def video(name: str) -> VideoDetections:
    rows = (Detection("long jump", 0.1, 2.25, 0.5), Detection("Käse", 0.0, 1 / 3, 1e-9))
    return VideoDetections(video=name, duration_s=9.5, detections=rows, window=1024 if name == "b" else None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The journal of a run that was killed after two videos."""
    path = tmp_path / "out.json.partial.jsonl"
    with Journal(path, SETTINGS, resume=False) as journal:
        journal.add(STATE, video("a"))
        journal.add(STATE, video("b"))
    return path


def test_what_is_finished_comes_back_to_the_last_digit(path: Path) -> None:
    with Journal(path, SETTINGS, resume=True) as journal:
        assert journal.finished("a", STATE) == video("a")
        assert journal.finished("b", STATE) == video("b")
        assert journal.finished("c", STATE) is None
        assert len(journal) == 2


@pytest.mark.parametrize("state", [FileState(11, 20), FileState(10, 21), None])
def test_a_changed_file_is_not_finished(path: Path, state: FileState | None) -> None:
    with Journal(path, SETTINGS, resume=True) as journal:
        assert journal.finished("a", state) is None


def test_a_torn_line_is_unfinished_and_written_over(path: Path) -> None:
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines(keepends=True)[-1])):
        path.write_bytes(whole[:-cut])
        with Journal(path, SETTINGS, resume=True) as journal:
            assert (journal.finished("a", STATE) is not None, journal.finished("b", STATE)) == (True, None)
            journal.add(STATE, video("b"))
        assert path.read_bytes() == whole


def test_a_run_killed_before_it_began_is_begun(path: Path) -> None:
    first = path.read_bytes().splitlines(keepends=True)[0]
    for cut in range(len(first)):
        path.write_bytes(first[:cut])
        with Journal(path, SETTINGS, resume=True) as journal:
            assert len(journal) == 0
        assert path.read_bytes() == first


def test_without_resume_it_starts_over_and_says_so(path: Path) -> None:
    with Journal(path, SETTINGS, resume=False) as journal:
        assert (journal.discarded, journal.finished("a", STATE)) == (2, None)


def test_other_settings_are_refused_by_name(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"other settings \(length 16, now 32\)"):
        Journal(path, {**SETTINGS, "length": 32}, resume=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"a user's notes\n", b'{"journal": "another"}\n', b"\xff\n"])
@pytest.mark.parametrize("resume", [True, False])
def test_a_file_of_another_kind_is_left_alone(path: Path, content: bytes, resume: bool) -> None:
    path.write_bytes(content)
    with pytest.raises(JournalError, match="not a journal of stale-run"):
        Journal(path, SETTINGS, resume=resume)
    assert path.read_bytes() == content


def test_two_runs_do_not_write_one_journal(path: Path) -> None:
    with Journal(path, SETTINGS, resume=True), pytest.raises(JournalError, match="another stale-run is writing it"):
        Journal(path, SETTINGS, resume=True)


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(JournalError, match="link"):
        Journal(link, SETTINGS, resume=True)


def test_the_state_of_a_file_tells_a_change(tmp_path: Path) -> None:
    file = tmp_path / "x"
    assert file_state(file) is None
    file.write_bytes(b"one")
    before = file_state(file)
    file.write_bytes(b"three")
    assert before is not None
    assert file_state(file) != before


def test_a_changed_digit_counts_as_unfinished_and_all_that_follows(path: Path) -> None:
    whole = path.read_bytes()
    assert whole.count(b"2.25") == 2
    path.write_bytes(whole.replace(b"2.25", b"2.26", 1))
    with Journal(path, SETTINGS, resume=True) as journal:
        assert len(journal) == 0
    path.write_bytes(b"2.26".join(whole.rsplit(b"2.25", 1)))
    with Journal(path, SETTINGS, resume=True) as journal:
        assert journal.finished("a", STATE) == video("a")
        assert len(journal) == 1


@pytest.mark.parametrize("content", [bytes(4096), bytes(100) + b"\n" + bytes(100)])
def test_what_a_power_cut_leaves_of_a_new_file_is_begun_again(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for resume in (True, False):
        with Journal(path, SETTINGS, resume=resume) as journal:
            assert len(journal) == 0


def test_a_pipe_in_its_place_is_refused(tmp_path: Path) -> None:
    path = make_fifo(tmp_path / "out.json.partial.jsonl")
    with no_waiting(), pytest.raises(JournalError, match="not a regular file"):
        Journal(path, SETTINGS, resume=False)


def test_one_that_is_removed_before_it_is_locked_is_made_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run completes and removes it; what was written to it then would be in no folder."""
    original, removed = fcntl.flock, list[Path]()

    def late(descriptor: int, operation: int) -> None:
        if not removed:
            path.unlink()
            removed.append(path)
        original(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", late)
    with Journal(path, SETTINGS, resume=True) as journal:
        assert len(journal) == 0
        journal.add(STATE, video("a"))
        assert b'"video": "a"' in path.read_bytes()


def test_where_nothing_at_all_can_be_written_one_error_says_so(tmp_path: Path) -> None:
    """What could not be written is still to be written when the file is closed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(JournalError, match="File too large; raise the limit"):
            Journal(tmp_path / "out.json.partial.jsonl", SETTINGS, resume=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_video_with_too_many_detections_costs_no_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its line could not be read again, nor could those after it."""
    monkeypatch.setattr("stale_runtime.batch.journal.LONGEST_LINE", 1000)
    long = VideoDetections(video="long", duration_s=1.0, detections=(Detection("polo", 0.0, 1.0, 0.5),) * 100)
    with Journal(path, SETTINGS, resume=True) as journal:
        journal.add(STATE, long)
        journal.add(STATE, video("c"))
    with Journal(path, SETTINGS, resume=True) as journal:
        assert journal.finished("long", STATE) is None
        assert journal.finished("c", STATE) == video("c")
