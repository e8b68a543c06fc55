import click
import pytest
from click.testing import CliRunner

from stale_runtime.terminal.options import Lengths, SpaceSeparated, Thresholds


@click.command()
@click.option("-l", "--lengths", cls=SpaceSeparated, type=Lengths())
@click.option("--name", cls=SpaceSeparated, type=click.Choice(["a", "b"]))
@click.option("--flag", is_flag=True)
@click.argument("rest", nargs=-1)
def command(lengths: tuple[tuple[int, ...], ...], name: tuple[str, ...], flag: bool, rest: tuple[str, ...]) -> None:
    click.echo(f"{lengths} {name} {flag} {rest}")


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("", "() () False ()"),
        ("--lengths 100", "((100,),) () False ()"),
        ("--lengths 100 200", "((100,), (200,)) () False ()"),
        ("--lengths 100 --lengths 200 300", "((100,), (200,), (300,)) () False ()"),
        ("--lengths=100 200 --flag", "((100,), (200,)) () True ()"),
        ("-l 100 200", "((100,), (200,)) () False ()"),
        ("-l100 200", "((100,), (200,)) () False ()"),
        ("--name a b --lengths 100 --name b", "((100,),) ('a', 'b', 'b') False ()"),
        ("--flag x --lengths 100 200 -- y", "((100,), (200,)) () True ('x', 'y')"),
        ("--lengths 100:300:100 400", "((100, 200, 300), (400,)) () False ()"),
        ("--lengths 100:350:100", "((100, 200, 300),) () False ()"),
    ],
)
def test_values_are_taken_up_to_the_next_option(line: str, printed: str) -> None:
    ran = CliRunner().invoke(command, line.split())
    assert ran.exit_code == 0, ran.output
    assert ran.output.strip() == printed


@pytest.mark.parametrize(
    "line", ["--lengths", "--lengths 0", "--lengths 100 100000", "--lengths -5", "--lengths 100 x", "--name c",
             "--lengths 200:100:10", "--lengths 100:200", "--lengths 100:200:0", "--lengths 100:99999999999:1"],
)  # fmt: skip
def test_what_is_no_value_is_a_usage_error(line: str) -> None:
    ran = CliRunner().invoke(command, line.split())
    assert ran.exit_code == 2
    assert ran.output.splitlines()[-1].startswith("Error: ")


def test_longer_videos_and_fewer_lengths_may_be_asked_for() -> None:
    videos = Lengths(longest=100_000)
    assert videos.convert("16:100000:50000", None, None) == (16, 50_016)
    with pytest.raises(click.BadParameter, match="'100001', expected 16 to 100000 snippets"):
        videos.convert("100001", None, None)
    with pytest.raises(click.BadParameter, match="are 99,985 lengths, expected at most 4,096"):
        videos.convert("16:100000:1", None, None)


def test_a_length_that_is_none_says_what_exists() -> None:
    assert "expected 16 to 4096 snippets" in CliRunner().invoke(command, ["--lengths", "0"]).output


@pytest.mark.parametrize("text", ["0.5:0.05:0.95", "0.5:0.95:0.05"])
def test_the_order_of_a_range_of_thresholds_is_the_one_that_can_be_meant(text: str) -> None:
    assert Thresholds().convert(text, None, None) == tuple(round(0.5 + 0.05 * n, 10) for n in range(10))


@pytest.mark.parametrize("text", ["100:400:100", "100:100:400"])
def test_the_order_of_a_range_of_lengths_is_the_one_that_can_be_meant(text: str) -> None:
    assert Lengths().convert(text, None, None) == (100, 200, 300, 400)


@pytest.mark.parametrize(
    ("text", "thresholds"),
    [
        ("0.1:0.9:0.4", (0.1, 0.5, 0.9)),
        ("0.1:0.4:0.9", (0.1, 0.5, 0.9)),
        ("0.9:0.1:1", (0.9, 1.0)),
        ("0.5:0.55:0.05", (0.5, 0.55)),
        ("0.5:0.5:0.05", (0.5,)),
        ("0.5:0.2:0.85", (0.5, 0.7)),
        ("0.1:0.9:0.1", tuple(round(0.1 * n, 10) for n in range(1, 10))),
    ],
)
def test_no_threshold_lies_beyond_the_end_of_its_range(text: str, thresholds: tuple[float, ...]) -> None:
    assert Thresholds().convert(text, None, None) == thresholds


@pytest.mark.parametrize(
    ("option", "text", "says"),
    [
        (Thresholds(), "0.5:0.3:0.6", "START:STEP:STOP, from 0.5 to 0.6 in steps of 0.3, nor as START:STOP:STEP, from"),
        (Thresholds(), "0.9:0.05:0.5", "START:STOP:STEP, from 0.9 to 0.05 in steps of 0.5"),
        (Thresholds(), "0:0.1:0.9", "START:STEP:STOP, from 0.0 to 0.9 in steps of 0.1"),
        (Lengths(), "200:100:10", "START:STEP:STOP, from 200 to 10 in steps of 100, nor as START:STOP:STEP, from 200"),
        (Lengths(), "100:250:200", "START:STOP:STEP, from 100 to 250 in steps of 200"),
        (Lengths(), f"100:{'9' * 400}:10", "expected 16 to 4096 snippets"),
    ],
)
def test_a_range_in_neither_order_is_refused_with_both_readings(
    option: Thresholds | Lengths, text: str, says: str
) -> None:
    with pytest.raises(click.BadParameter, match=says):
        option.convert(text, None, None)
