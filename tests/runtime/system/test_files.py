import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_runtime.errors import BundleError, DatasetError, PromptError
from stale_runtime.system.files import read_bytes, read_json, read_text, why_unwritten, write_together, write_whole
from tests.runtime.helpers import make_fifo, no_waiting

LIMIT = 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def test_reads_up_to_the_limit(path: Path) -> None:
    path.write_bytes(b"x" * LIMIT)
    assert read_bytes(path, limit=LIMIT, error=BundleError) == b"x" * LIMIT
    with pytest.raises(BundleError, match=f"{path}: more than 999 bytes"):
        read_bytes(path, limit=LIMIT - 1, error=BundleError)


def test_raises_the_error_it_is_told_to(path: Path, tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=f"{path}: No such file or directory$"):
        read_bytes(path, limit=LIMIT, error=PromptError)
    with pytest.raises(DatasetError, match=f"{tmp_path}: Is a directory$"):
        read_bytes(tmp_path, limit=LIMIT, error=DatasetError)
    with no_waiting(), pytest.raises(DatasetError, match="not a regular file"):
        read_json(make_fifo(path), limit=LIMIT, error=DatasetError)
    with pytest.raises(DatasetError, match="not a regular file"):
        read_text(Path("/dev/zero"), limit=LIMIT, error=DatasetError)


def test_text_is_utf_8_with_or_without_a_mark(path: Path) -> None:
    path.write_bytes("\ufeffänd".encode())
    assert read_text(path, limit=LIMIT, error=DatasetError) == "änd"
    path.write_bytes(b"a\nb\nc\xe4")
    with pytest.raises(DatasetError, match="line 3: not UTF-8"):
        read_text(path, limit=LIMIT, error=DatasetError)
    path.write_bytes(b"a\n\0")
    with pytest.raises(DatasetError, match="line 2: a binary file"):
        read_text(path, limit=LIMIT, error=DatasetError)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text('aä\n"'),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner),
    )
)
def test_json_is_read_as_written(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    path = tmp_path_factory.getbasetemp() / "written.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert read_json(path, limit=10**6, error=DatasetError) == content


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1,]", "NaN", "[Infinity]", '{"a": -Infinity}', "[" * 100_000, "1" * 5000, "'a'", "[1e999]", "[-1e999]"],
)
def test_bad_json_is_refused(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(DatasetError, match="not valid JSON") as caught:
        read_json(path, limit=10**6, error=DatasetError)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("text", [r'"\ud800"', r'{"\uDFFF": 1}', r'["a\udbff\ud800"]', r'"\ude00\ud83d"'])
def test_half_a_character_is_refused(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(DatasetError, match=r"not valid JSON.*surrogates"):
        read_json(path, limit=LIMIT, error=DatasetError)


def test_two_halves_are_a_character(path: Path) -> None:
    path.write_text(r'"\ud83d\ude00"')
    assert read_json(path, limit=LIMIT, error=DatasetError) == "\U0001f600"


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60))
def test_arbitrary_bytes_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "arbitrary"
    path.write_bytes(data)
    try:
        read_json(path, limit=LIMIT, error=DatasetError)
    except DatasetError:
        return
    assert json.loads(data.decode("utf-8-sig")) is not Ellipsis


def test_writes_and_overwrites(path: Path, tmp_path: Path) -> None:
    for data in (b"first", b"", b"third\0"):
        write_whole(path, data)
        assert path.read_bytes() == data
        assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_has_the_usual_permissions(path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(path, b"data")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_writing_leaves_the_process_s_permissions_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> int:
        raise AssertionError("another thread may write a file meanwhile")

    monkeypatch.setattr("os.umask", fail)
    write_whole(path, b"data")
    assert path.read_bytes() == b"data"


@pytest.mark.parametrize("failing", ["os.replace", "os.mkdir"])
@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("there", [True, False])
def test_a_write_that_fails_leaves_things_as_they_were(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, problem: BaseException, there: bool
) -> None:
    if there:
        path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise problem

    with monkeypatch.context() as patch:
        patch.setattr(failing, fail)
        with pytest.raises(type(problem)):
            write_whole(path, b"new")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("file", b"old")] * there


def test_files_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    write_together(tmp_path, [("a", b"1"), ("b", b"2")])
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"a": b"1", "b": b"2"}

    def contents() -> Iterator[tuple[str, bytes]]:
        yield "a", b"3"
        yield "c", b"4"
        raise MemoryError

    with pytest.raises(MemoryError):
        write_together(tmp_path, contents())
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"a": b"1", "b": b"2"}


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.ENOSPC, "No space left on device; make room and run it again"),
        (errno.EDQUOT, "Disk quota exceeded; make room and run it again"),
        (errno.EROFS, "Read-only file system; give a place that you may write to"),
        (errno.EIO, "Input/output error; give another place"),
    ],
)
def test_what_cannot_be_written_has_a_remedy(code: int, says: str) -> None:
    assert why_unwritten(OSError(code, os.strerror(code))) == says


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "no" / "file", b"data")


@pytest.mark.parametrize("name", ["x" * 255, "跳" * 85, "🤸" * 63], ids=["1 byte", "3 bytes", "4 bytes"])
def test_every_name_that_the_file_system_takes_can_be_written(tmp_path: Path, name: str) -> None:
    write_whole(tmp_path / name, b"data")
    assert (tmp_path / name).read_bytes() == b"data"
