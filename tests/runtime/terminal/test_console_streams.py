"""What commands print on terminals of other code pages, and on systems that lack devices."""

import io
import json
import os
import sys
from pathlib import Path

import click
import pytest

from stale_runtime.terminal import console

LABELS = "Ŀ, жонглирование, 😀"


def printed(text: str, encoding: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, bytes, bytes]:
    """Exit code, stdout and stderr of a command that prints a text on both."""

    @click.command
    def show() -> None:
        console.echo(text)
        console.note("show", text)

    out, err = io.BytesIO(), io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding=encoding, errors="strict"))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding=encoding, errors="strict"))
    monkeypatch.setattr(sys, "argv", ["show"])
    with pytest.raises(SystemExit) as ended:
        console.run_command(show, "show")
    code = ended.value.code
    assert isinstance(code, int)
    sys.stderr.flush()
    return code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "shift-jis"])
def test_letters_that_a_code_page_lacks_are_escaped_as_in_json(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = printed(json.dumps({"label": LABELS}, ensure_ascii=False), encoding, monkeypatch)
    assert code == 0
    assert json.loads(out.decode(encoding)) == {"label": LABELS}
    assert err.decode(encoding).startswith("show: ")
    assert r"\ud83d\ude00" in err.decode(encoding)


def test_letters_that_it_has_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed("café", "cp1252", monkeypatch)[1] == b"caf\xe9\n"
    assert printed(LABELS, "utf-8", monkeypatch)[1] == f"{LABELS}\n".encode()


def test_without_dev_null_nothing_is_missing_until_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "devnull", "/nowhere/null")
    assert printed("a", "utf-8", monkeypatch)[:2] == (0, b"a\n")


def test_a_missing_dev_null_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "devnull", str(tmp_path / "null"))

    @click.command
    def need() -> None:
        open(os.devnull).close()

    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(sys, "argv", ["need"])
    with pytest.raises(SystemExit, match="2"):
        console.run_command(need, "need")
    says = f"need: error: {os.devnull}: No such file or directory; create it: mknod -m 666 {os.devnull} c 1 3\n"
    assert stderr.getvalue() == says
