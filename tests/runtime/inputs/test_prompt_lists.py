"""Files that are no lists of class names are refused, and names that find little are doubted."""

from pathlib import Path

import pytest

from stale_runtime.errors import PromptError
from stale_runtime.inputs.prompt_lists import describe_doubts, describe_joined, split_name, why_not_a_list
from stale_runtime.inputs.prompts import read_prompts


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"database": {}}', "JSON, expected one class name per line"),
        ('["Long jump", "Archery"]', "JSON"),
        ('[\n  "Long jump",\n  "Archery"\n]', "JSON"),
        ("12,Long jump\n7,Archery", "a table that begins with numbers: '12,Long jump', expected 'Long jump'"),
        ("id,name\n12,Long jump\n7,Archery", "a table that begins with numbers: '12,Long jump', expected 'Long jump'"),
        ("0: person\n1: bicycle", "expected 'person'"),
        ("12\tLong jump\n7\tArchery", "expected 'Long jump'"),
        ("Long jump: 12\nArchery: 7", "a table that ends with numbers: 'Long jump: 12', expected 'Long jump'"),
        ("Long jump,12\nArchery,7", "a table that ends with numbers: 'Long jump,12', expected 'Long jump'"),
        ("Long jump\tsport\nArchery\tsport", "columns separated by tabs"),
        ('item {\n  name: "Long jump"\n  id: 1\n}', "a label map with braces"),
        ("7 BaseballPitch\n9 BasketballDunk", "names with their numbers: '7 BaseballPitch', expected 'BaseballPitch'"),
        ("0 abseiling\n1 air drumming", "names with their numbers: '0 abseiling', expected 'abseiling'"),
        ("1. Long jump\n2. Archery", "a numbered list: '1. Long jump', expected 'Long jump'"),
        ("- Long jump\n- Archery", "a list with bullets: '- Long jump', expected 'Long jump'"),
        ('"Long jump",\n"Archery",', "names in quotes"),
        ("1\n2\n3", "numbers, expected one class name"),
        ("<ul>\n<li>Long jump</li>", "HTML or XML"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_text(f"# classes\n{text}\n")
    with pytest.raises(PromptError) as caught:
        read_prompts(path)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{path}, line 2: ")


@pytest.mark.parametrize(
    "line", ["9" * 10**5, "9," * 10**5, "9 " * 10**5, ", " * 10**5, "'" * 10**5, "-" + " " * 10**5 + "x", "a,9" * 10**5]
)
def test_a_long_line_takes_no_time(line: str) -> None:
    """It would take hours if the time grew with the square of its length."""
    why_not_a_list([line.strip()])
    list(describe_doubts([line.strip()]))


@pytest.mark.parametrize(
    "lines",
    [
        ["100 m sprint", "200 m sprint", "400 m hurdles"],
        ["Long jump", "12"],
        ["Rock-paper-scissors", "Ping-pong"],
        ["salto backward stretched, with 1 twist", "salto forward, with 2 twists"],
        ["carry/hold (an object)", "4x100 m relay", "3,000 m steeplechase"],
        ["[unknown]", "Archery"],
        ["7 BaseballPitch"],
    ],
)
def test_what_may_be_a_list_is_none_of_these(lines: list[str]) -> None:
    assert why_not_a_list(lines) is None


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a video of action Long jump", "A photo of archery"], "2 of 2 prompts begin with words such as 'a video of'"),
        (
            ["Long jump, Archery"],
            "a comma in the prompt, such as 'Long jump, Archery': each line, and each --prompt, is",
        ),
        (["100 m sprint", "200 m sprint"], "all 2 prompts begin with a number, such as '100 m sprint'"),
        (["Long jump", "Archery", "carry, or hold"], ""),
        (["Long jump;Archery"], "a semicolon in the prompt, such as 'Long jump;Archery'"),
        (["Long jump\u200b", "Archery"], r"1 of 2 prompts have marks that cannot be seen, such as 'Long jump\u200b'"),
    ],
)
def test_names_that_find_little_are_doubted(names: list[str], says: str) -> None:
    doubts = list(describe_doubts(names))
    assert len(doubts) == bool(says)
    assert all(says in doubt for doubt in doubts)


def test_underscores_join_words_as_capitals_do() -> None:
    found = [
        split_name(name) for name in ("long_jump", "Hand_Stand", "BMX_race", "HandStand_Pushups", "_", "a_", "Polo")
    ]
    assert found == ["long jump", "Hand stand", "BMX race", "Hand stand pushups", "_", "a_", "Polo"]
    assert describe_joined(["Polo", "long_jump"]) == (
        "1 of 2 class names run words together, such as 'long_jump'",
        "long_jump",
    )
    assert describe_joined(["Polo"]) is None
