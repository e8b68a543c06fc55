import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_runtime.errors import PromptError
from stale_runtime.inputs.prompt_lists import split_name, why_not_a_list
from stale_runtime.inputs.prompts import (
    LARGEST_FILE,
    LONGEST_PROMPT,
    MOST_PROMPTS,
    Prompts,
    as_prompts,
    read_prompts,
)
from tests.runtime.helpers import make_fifo, no_waiting


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "classes.txt"


def refused(path: Path, match: str) -> None:
    with no_waiting(), pytest.raises(PromptError, match=match) as caught:
        read_prompts(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_reads_a_name_a_line(path: Path, ending: str, mark: bytes) -> None:
    lines = ["Long jump", "", "# a comment", "  Archery\t", "   ", "  # another", "Rock-paper-scissors", "跳远"]
    path.write_bytes(mark + ending.join(lines).encode() + ending.encode())
    prompts = read_prompts(path)
    assert prompts.names == ("Long jump", "Archery", "Rock-paper-scissors", "跳远")
    assert prompts.places == tuple(f"{path}, line {n}" for n in (1, 4, 7, 8))


def test_the_last_line_needs_no_end(path: Path) -> None:
    path.write_text("polo\narchery")
    assert read_prompts(path).names == ("polo", "archery")


def test_a_hash_inside_a_name_is_part_of_it(path: Path) -> None:
    path.write_text("C # major\n")
    assert read_prompts(path).names == ("C # major",)


@pytest.mark.parametrize("second", ["Long jump", "long JUMP", "Long   jump", "Long\tjump".replace("\t", " ")])
def test_a_duplicate_is_named_with_both_lines(path: Path, second: str) -> None:
    path.write_text(f"Long jump\n# between\npolo\n{second}\n")
    refused(path, f", line 4: duplicate prompt '{second}', already given at {path}, line 1;")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "no prompts, expected one class name per line"),
        (b"\n\n# only this\n", "no prompts"),
        (b"\xef\xbb\xbf", "no prompts"),
        (b"polo\narch\xffery\n", "line 2: not UTF-8 text"),
        ("polo\nMünchen\n".encode("latin-1"), "line 2: not UTF-8 text"),
        ("polo\n".encode("utf-16"), "line 1: not UTF-8 text"),
        (b"polo\n\narch\0ery\n", "line 3: a binary file"),
        (b"\x93NUMPY\x01\x00", "line 1: not UTF-8"),
        (b"polo\n\x1b[31mred\n", r"line 2: control characters in '\\x1b\[31mred'"),
        (b"polo\nlong\tjump\n", "line 2: control characters"),
        (
            b"polo\n" + b"x" * (LONGEST_PROMPT + 1),
            f"line 2: {LONGEST_PROMPT + 1} characters, expected a class name of at most {LONGEST_PROMPT}",
        ),
        (b"\n".join(b"class %d" % n for n in range(MOST_PROMPTS + 1)), "4,097 prompts, expected at most 4,096"),
        (b"#" * (LARGEST_FILE + 1), "more than 1,048,576 bytes"),
    ],
)
def test_refuses_what_would_mislead(path: Path, content: bytes, match: str) -> None:
    path.write_bytes(content)
    with pytest.raises(PromptError, match=match):
        read_prompts(path)


@pytest.mark.parametrize("separator", ["\v", "\f", "\x1c", "\x85", "\u2028"])
def test_only_line_ends_end_a_line(path: Path, separator: str) -> None:
    path.write_bytes(f"polo\nlong{separator}jump\n".encode())
    refused(path, "line 2: control characters")


def test_limits_themselves_are_accepted(path: Path) -> None:
    path.write_text("x" * LONGEST_PROMPT)
    assert read_prompts(path).names == ("x" * LONGEST_PROMPT,)
    path.write_text("\n".join(f"class {n}" for n in range(MOST_PROMPTS)))
    assert len(read_prompts(path).names) == MOST_PROMPTS


def test_refuses_what_is_no_file(path: Path, tmp_path: Path) -> None:
    refused(path, "No such file")
    refused(tmp_path, "directory")
    refused(make_fifo(path), "not a regular file")


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60))
def test_arbitrary_bytes_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "arbitrary.txt"
    path.write_bytes(data)
    try:
        prompts = read_prompts(path)
    except PromptError:
        return
    assert prompts.names
    assert all(name == name.strip() and len(name.splitlines()) == 1 for name in prompts.names)


@given(st.lists(st.text("abcXYZ0-' ", min_size=1, max_size=9).map(str.strip), min_size=1, max_size=6))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "written.txt"
    kept = list({" ".join(name.lower().split()): name for name in names if name}.values())
    path.write_text("\n".join(kept))
    if kept and why_not_a_list(kept) is None:
        assert list(read_prompts(path).names) == kept


def test_names_from_a_program_are_checked_as_well() -> None:
    assert Prompts.of(["polo", "archery"]).places == ("prompt 1", "prompt 2")
    with pytest.raises(PromptError, match="prompt 3: duplicate prompt 'POLO', already given at prompt 1"):
        Prompts.of(["polo", "archery", "POLO"])
    with pytest.raises(PromptError, match="prompt 2: an empty prompt"):
        Prompts.of(["polo", " "])
    with pytest.raises(PromptError, match="expected at least one class name"):
        Prompts.of([])
    with pytest.raises(PromptError, match="prompt 1: control characters"):
        Prompts.of(["\ud800"])


def test_checked_prompts_stay_as_they_are() -> None:
    prompts = Prompts.of(["polo"])
    assert as_prompts(prompts) is prompts
    assert as_prompts(["polo"]) == prompts


def test_a_single_name_is_not_taken_for_a_list_of_letters() -> None:
    with pytest.raises(PromptError, match="archery"):
        as_prompts("archery")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("BaseballPitch", "Baseball pitch"),
        ("CleanAndJerk", "Clean and jerk"),
        ("TaiChi", "Tai chi"),
        ("YoYo", "Yo yo"),
        ("HandstandPushups", "Handstand pushups"),
        ("Playing the PianoForte", "Playing the Piano forte"),
        ("BMXRace", "BMX race"),
        ("RidingBMX", "Riding BMX"),
        ("MakingACake", "Making a cake"),
        ("3DPrinting", "3D printing"),
        ("iPhoneRepair", "iPhone repair"),
        ("ÜbungMachen", "Übung machen"),
    ],
)
def test_words_that_run_together_are_split(name: str, text: str) -> None:
    assert split_name(name) == text
    assert split_name(text) == text


@pytest.mark.parametrize(
    "name",
    ["BMX", "Long jump", "Long Jump", "Ping-pong", "Ping-Pong", "iPhone repair", "eBay", "DVDs", "TVs", "Diving", "A",
     "跳远", "O'Neill", "USA", "C # major", "ß", "4x100 m"],
)  # fmt: skip
def test_other_names_stay_as_they_are(name: str) -> None:
    assert split_name(name) == name


@given(st.text(max_size=30))
def test_splitting_only_adds_blanks_and_changes_case(name: str) -> None:
    apart = str.maketrans("", "", " _")
    assert split_name(name).translate(apart).casefold() == name.translate(apart).casefold()


def test_split_names_change_the_text_and_not_the_label(path: Path) -> None:
    path.write_text("BaseballPitch\nLong jump\n")
    prompts = read_prompts(path, split_names=True)
    assert prompts.names == ("BaseballPitch", "Long jump")
    assert prompts.texts == ("Baseball pitch", "Long jump")
    assert read_prompts(path).texts == prompts.names


def test_names_that_are_the_same_when_split_are_duplicates(path: Path) -> None:
    path.write_text("LongJump\nlong jump\n")
    assert read_prompts(path).texts == ("LongJump", "long jump")
    with pytest.raises(PromptError, match=r"line 2: duplicate prompt 'long jump', already given at .*, line 1;"):
        read_prompts(path, split_names=True)


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}", "-", "/dev/stdin"])
def test_names_come_from_an_open_pipe(name: str) -> None:
    """As a shell gives one for ``<(command)``; a pipe with a name, which may have no writer, is refused."""
    reading, writing = os.pipe()
    stdin = os.dup(0)
    try:
        os.dup2(reading, 0)
        os.write(writing, b"Long jump\nArchery\n")
        os.close(writing)
        os.set_blocking(reading, False)
        assert read_prompts(name.format(reading)).names == ("Long jump", "Archery")
    finally:
        os.dup2(stdin, 0)
        os.close(stdin)
        os.close(reading)


def test_a_pipe_has_a_limit_and_a_terminal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda _: False)
    monkeypatch.setattr(os, "read", lambda _, size: b"x" * size)
    with pytest.raises(PromptError, match="-: more than 1,048,576 bytes"):
        read_prompts("-")
    monkeypatch.setattr(os, "isatty", lambda _: True)
    with pytest.raises(PromptError, match="-: a terminal, expected text; pipe it into the command"):
        read_prompts("-")
    monkeypatch.undo()
    with pytest.raises(PromptError, match="/dev/fd/999999: Bad file descriptor"):
        read_prompts("/dev/fd/999999")
