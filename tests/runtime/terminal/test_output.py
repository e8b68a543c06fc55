import os
import stat
from pathlib import Path

import click
import pytest

from stale_runtime.terminal.output import check_output, write_output
from tests.runtime.helpers import make_fifo, no_waiting


def test_without_a_path_the_result_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    check_output(None)
    write_output("a\nb", None)
    assert capsys.readouterr() == ("a\nb", "")


def test_a_file_holds_the_result_in_utf_8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.csv"
    check_output(path)
    write_output("跳远\n", path)
    assert path.read_bytes() == "跳远\n".encode()
    assert capsys.readouterr() == ("", "")


def test_what_cannot_be_written_is_found_out_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="a folder, expected the path of a file"):
        check_output(tmp_path)
    with pytest.raises(click.UsageError, match=f"there is no folder {tmp_path}/no"):
        check_output(tmp_path / "no" / "out.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(click.UsageError, match="there is no folder"):
        check_output(tmp_path / "file" / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_found_out_before_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(click.UsageError, match="no permission to write"):
        check_output(tmp_path / "out.csv")


def test_a_device_or_fifo_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    fifo = make_fifo(tmp_path / "fifo")
    with no_waiting(), pytest.raises(click.UsageError, match="fifo"):
        check_output(fifo)
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_failed_write_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(click.UsageError, match=f"-o {tmp_path}/out: No space left on device"):
        write_output("text", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_path_that_became_a_folder_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(click.UsageError, match="directory"):
        write_output("text", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "old").write_text("old")
    for name in ("old", "new"):
        link = tmp_path / name
        link.symlink_to(f"real/{name}")
        check_output(link)
        write_output("text", link)
        assert link.is_symlink()
        assert (tmp_path / "real" / name).read_text() == "text"
    assert sorted(path.name for path in (tmp_path / "real").iterdir()) == ["new", "old"]


def test_a_link_that_leads_nowhere_is_found_out_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "astray").symlink_to("no/such/folder")
    for name, says in (("loop", "leads to itself"), ("astray", "no folder")):
        with pytest.raises(click.UsageError, match=says):
            check_output(tmp_path / name)


def test_a_name_that_is_too_long_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300)
    check_output(path)
    with pytest.raises(click.UsageError, match="File name too long"):
        write_output("text", path)
