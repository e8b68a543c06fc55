"""Where a command's result goes: stdout, or a file written whole."""

import os
from pathlib import Path

import click

from stale_runtime.files import why_unwritten, write_whole


def check_output(path: Path | None, option: str = "-o") -> None:
    """Find out before the work whether a result can be written.

    Args:
        path: a file; None for stdout.
        option: what messages call it.

    Raises:
        click.UsageError: it cannot.
    """
    if path is None:
        return
    if path.is_dir():
        raise click.UsageError(f"{option} {path}: a folder, expected the path of a file")
    if path.exists() and not path.is_file():
        raise click.UsageError(
            f"{option} {path}: a device or pipe, expected the path of a file; leave -o out for stdout"
        )
    if not path.parent.is_dir():
        raise click.UsageError(f"{option} {path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise click.UsageError(f"{option} {path}: no permission to write in {path.parent}")


def write_output(text: str, path: Path | None, option: str = "-o") -> None:
    """Print a result, or write it to a file.

    Args:
        text: the result.
        path: a file; None for stdout.
        option: what messages call it.

    Raises:
        click.ClickException: the file cannot be written.
    """
    if path is None:
        click.echo(text, nl=False)
        return
    try:
        write_whole(path, text.encode())
    except OSError as problem:
        raise click.UsageError(f"{option} {path}: {why_unwritten(problem)}") from problem
