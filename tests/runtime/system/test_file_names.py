from hypothesis import given
from hypothesis import strategies as st

from stale_runtime.system.file_names import LONGEST_NAME, make_file_names


def test_plain_ids_are_the_names() -> None:
    assert make_file_names(["v1", "v_-OLP x", "é.a", "-1"], ".srt") == ["v1.srt", "v_-OLP x.srt", "é.a.srt", "-1.srt"]


def test_names_are_safe() -> None:
    names = make_file_names(["a/b", "../c", "nul", "x\n", "e:f", " ", "ok.", "\ud800"], ".srt")
    assert [name.partition("-")[0] for name in names] == ["a_b", "_._c", "nul", "x_", "e_f", "_", "ok_", "_"]


def test_names_that_differ_in_capitals_only_get_apart() -> None:
    first, second, third = make_file_names(["A", "a", "Index"], ".html", taken=["index.html"])
    assert first == "A.html"
    assert second.startswith("a-")
    assert third.startswith("Index-")


@given(st.lists(st.text(min_size=1), unique=True))
def test_names_are_short_enough_different_and_stay_in_their_folder(ids: list[str]) -> None:
    names = make_file_names([*ids, "long" * 100, "long" * 101, "ä" * 200], ".otio")
    assert len({name.casefold() for name in names}) == len(ids) + 3
    assert all(len(name.encode()) <= LONGEST_NAME and "/" not in name and not name.startswith(".") for name in names)
    assert all((name.endswith(".otio") and name.isprintable()) or ord(max(name)) > 127 for name in names)
