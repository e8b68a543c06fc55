from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from stale_runtime.bundle import layout
from stale_runtime.inference import windows
from stale_runtime.inference.settings import Settings
from stale_runtime.terminal.options import PATH, FrameRate, Length, Number, Sha256, WindowSize


@click.command()
@click.option("--length", type=Length())
def show(length: object) -> None:
    click.echo(repr(length))


@pytest.mark.parametrize(
    ("given", "value"),
    [("auto", "'auto'"), (str(layout.SHORTEST), "16"), ("100", "100"), (str(layout.LONGEST), "4096")],
)
def test_a_length_is_a_number_or_auto(given: str, value: str) -> None:
    done = CliRunner().invoke(show, ["--length", given])
    assert (done.exit_code, done.output.strip()) == (0, value)


def test_a_length_may_be_left_out() -> None:
    assert CliRunner().invoke(show, []).output.strip() == "None"


@pytest.mark.parametrize(
    "given", [str(layout.SHORTEST - 1), str(layout.LONGEST + 1), "0", "-100", "AUTO", "", "1e2", "100.0", "x" * 99]
)
def test_anything_else_is_a_usage_error_that_says_what_is_expected(given: str) -> None:
    done = CliRunner().invoke(show, ["--length", given])
    assert done.exit_code == 2
    assert "expected 16 to 4096 snippets, or auto" in done.output
    assert len(done.output) < 250


def test_what_the_option_takes_the_library_takes() -> None:
    for length in (layout.SHORTEST, layout.LONGEST, "auto"):
        assert Settings(length=Length().convert(length, None, None)).length == length


@click.command()
@click.option("--hash", "given", type=Sha256())
def show_hash(given: object) -> None:
    click.echo(given)


def test_a_hash_is_64_digits_in_any_case() -> None:
    assert CliRunner().invoke(show_hash, ["--hash", "Ab" * 32]).output.strip() == "ab" * 32
    for given in ("ab" * 31, "ab" * 33, "xy" * 32, "", "sha256:" + "ab" * 32):
        done = CliRunner().invoke(show_hash, ["--hash", given])
        assert done.exit_code == 2
        assert "expected 64 hexadecimal digits" in done.output


def test_a_path_that_may_not_be_read_is_left_to_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_, **__: False)
    assert PATH.convert(str(tmp_path), None, None) == tmp_path


def test_a_number_is_in_its_range() -> None:
    number = Number(0, 5)
    assert number.convert("2.5", None, None) == 2.5
    for text in ("nan", "inf", "-inf", "5.1", "-1e-9", "two"):
        with pytest.raises(click.BadParameter):
            number.convert(text, None, None)


def test_help_shows_what_must_be_typed() -> None:
    shown = CliRunner().invoke(show, ["--help"]).output
    assert "--length N|auto" in shown
    assert "--hash HEX" in CliRunner().invoke(show_hash, ["--help"]).output


@click.command()
@click.option("--window", type=WindowSize())
def show_window(window: object) -> None:
    click.echo(repr(window))


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("auto", "'auto'"),
        ("off", "'off'"),
        (str(windows.SHORTEST), str(windows.SHORTEST)),
        (str(windows.LONGEST), str(windows.LONGEST)),
    ],
)
def test_a_window_is_a_number_auto_or_off(given: str, value: str) -> None:
    done = CliRunner().invoke(show_window, ["--window", given])
    assert (done.exit_code, done.output.strip()) == (0, value)
    assert Settings(window=WindowSize().convert(given, None, None)).window == eval(value)


@pytest.mark.parametrize("given", [str(windows.SHORTEST - 1), str(windows.LONGEST + 1), "0", "x", "", "1e2", "Off"])
def test_any_other_window_is_a_usage_error_that_says_what_is_expected(given: str) -> None:
    done = CliRunner().invoke(show_window, ["--window", given])
    assert done.exit_code == 2
    assert "expected 64 to 4096 snippets, auto or off" in done.output


def test_a_frame_rate_may_be_a_fraction() -> None:
    rate = FrameRate(1e-6, 1e9)
    assert rate.convert("30000/1001", None, None) == 30000 / 1001
    assert rate.convert("25", None, None) == 25.0
    for text in ("30000/0", "0/1", "1/2/3", "-1/2", "30000/", "nan/1"):
        with pytest.raises(click.BadParameter):
            rate.convert(text, None, None)
