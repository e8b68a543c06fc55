"""Writing a command's result to stdout, or to a file, completely or not at all."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from stale_runtime.system.files import why_unwritten, write_together, write_whole
from stale_runtime.terminal import console


def destination(path: Path) -> Path:
    """The file that is written for a path: if the path is a link, its target, so that the link stays."""
    return Path(os.path.realpath(path))


def check_output(path: Path | None, option: str = "-o") -> None:
    """Make sure, before the work, that a result can be written.

    Args:
        path: a file; None for stdout.
        option: the option that named it, for messages.

    Raises:
        click.UsageError: it cannot be written.
    """
    if path is None:
        return
    place = destination(path)
    folder = place.parent if os.path.islink(path) else path.parent
    if os.path.isdir(path):
        raise click.UsageError(f"{option} {path}: a folder, expected the path of a file")
    if os.path.exists(path) and not os.path.isfile(path):
        raise click.UsageError(
            f"{option} {path}: a device or pipe, expected the path of a file; leave -o out for stdout"
        )
    if os.path.islink(place):
        raise click.UsageError(f"{option} {path}: a link that leads to itself, expected the path of a file")
    if not os.path.isdir(folder):
        raise click.UsageError(f"{option} {path}: there is no folder {folder}; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise click.UsageError(f"{option} {path}: no permission to write in {folder}")


def check_output_folder(path: Path, option: str = "-o") -> None:
    """Make sure, before the work, that files can be written into a folder, which is created if it is missing.

    Args:
        path: a folder.
        option: the option that named it, for messages.

    Raises:
        click.UsageError: they cannot.
    """
    if os.path.lexists(path) and not os.path.isdir(path):
        raise click.UsageError(f"{option} {path}: not a folder, expected one for a file of each video")
    folder = path if os.path.isdir(path) else path.parent
    if not os.path.isdir(folder):
        raise click.UsageError(f"{option} {path}: there is no folder {folder}; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise click.UsageError(f"{option} {path}: no permission to write in {folder}")


def check_not_an_input(path: Path | None, inputs: Mapping[str, Path | None], option: str) -> None:
    """Make sure that a result is written to no file that the command reads, nor into a folder that it reads.

    Args:
        path: the file that is written; None for none.
        inputs: files and folders that are read, by the option that names them; None for those not given.
        option: the option that named ``path``.

    Raises:
        click.UsageError: it is one of them, or in one of the folders.
    """
    for name, source in inputs.items():
        if path is None or source is None:
            continue
        if _is_same(path, source):
            raise click.UsageError(f"{option} {path}: the same file as {name}, which it would ruin; give another file")
        if os.path.isdir(source) and _is_same(destination(path).parent, source):
            raise click.UsageError(f"{option} {path}: in the folder of {name}; give a file elsewhere")


def _is_same(path: Path, other: Path) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:  # one of them does not exist
        return destination(path) == destination(other)


def write_output(result: str | bytes, path: Path | None, option: str = "-o") -> None:
    """Print a result, or write it to a file.

    Args:
        result: text or bytes.
        path: a file; None for stdout.
        option: the option that named it, for messages.

    Raises:
        click.UsageError: the file cannot be written.
        OutputError: stdout cannot be written.
    """
    if path is None:
        console.echo(result if isinstance(result, str) else result.decode(), nl=False)
        return
    try:
        write_whole(destination(path), result.encode() if isinstance(result, str) else result)
    except OSError as problem:
        raise click.UsageError(f"{option} {path}: {why_unwritten(problem)}") from problem


def write_output_folder(files: Iterable[tuple[str, bytes]], folder: Path, option: str = "-o") -> None:
    """Write files into a folder: all of them, or none. Others that are there stay.

    Args:
        files: names, each given once, and contents.
        folder: it is created if it is missing.
        option: the option that named it, for messages.

    Raises:
        click.UsageError: a file cannot be written.
    """
    try:
        folder.mkdir(exist_ok=True)
        write_together(folder, files)
    except OSError as problem:
        raise click.UsageError(f"{option} {folder}: {why_unwritten(problem)}") from problem
