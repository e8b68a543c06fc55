import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tabulate import tabulate

from stale_runtime.formats.text_table import Alignment, text_table
from stale_runtime.system.text import one_line

HEADERS = ("video", "label", "score")
ALIGN: tuple[Alignment, ...] = ("left", "right", "left")
ascii_cells = st.text(st.characters(max_codepoint=126), max_size=12).map(one_line)


def by_tabulate(rows: list[tuple[str, str, str]]) -> str:
    return tabulate(rows, HEADERS, disable_numparse=True, colalign=ALIGN)


@given(st.lists(st.tuples(ascii_cells, ascii_cells, ascii_cells), min_size=1, max_size=4))
@example([("a", "Long jump", "0.9"), ("video_2", "", "")])
def test_tables_of_ascii_are_those_of_tabulate(rows: list[tuple[str, str, str]]) -> None:
    assert text_table(rows, HEADERS, ALIGN) == by_tabulate(rows)


@pytest.mark.parametrize("label", ["caf\u00e9", "\u8df3\u9ad8"])
def test_tabulate_makes_those_of_other_letters(label: str) -> None:
    rows = [("a", label, "0.9"), ("b", "polo", "0.1")]
    assert text_table(rows, HEADERS, ALIGN) == by_tabulate(rows)
