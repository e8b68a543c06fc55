"""Writing a bundle whole or not at all."""

import errno
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from stale_export.exchange import exchange
from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import LARGEST_MANIFEST
from stale_runtime.bundle.manifest import FileRecord, Manifest
from stale_runtime.errors import BundleError, StaleError
from stale_runtime.system.files import read_bytes
from stale_runtime.system.workspace import SET_ASIDE, sync_folder, workspace, write_durably


def can_be_bundle(output: Path) -> bool:
    """Whether a path is free for a bundle: nothing is there, or an empty folder, or a bundle and nothing else."""
    if not output.exists() and not output.is_symlink():
        return True
    if not output.is_dir() or output.is_mount():
        return False
    found = {path.name for path in output.iterdir()}
    return not found or found <= {layout.MANIFEST, layout.SIGNATURE, *_listed_files(output / layout.MANIFEST)}


def _listed_files(manifest: Path) -> set[str]:
    """The files that a manifest lists, of whatever version; none if it is none of ours."""
    try:
        content = json.loads(read_bytes(manifest, limit=LARGEST_MANIFEST, error=BundleError))
        return {layout.MANIFEST, *content["files"]} if "manifest_sha256" in content else set()
    except (StaleError, ValueError, RecursionError, TypeError, KeyError):
        return set()


def write_bundle(
    output: Path,
    manifest: Manifest,
    contents: Mapping[str, bytes],
    *,
    sign: Callable[[Manifest], bytes] | None = None,
) -> Manifest:
    """Write files and manifest beside the output, then give them its name.

    At every moment the name stands for all of the old bundle or all of the new one. Where the file system cannot
    exchange two folders there is a moment at which it stands for none; a run killed then leaves the old bundle in its
    workspace, and the next to write beside it puts it back.

    Args:
        output: the bundle's folder; see ``can_be_bundle``.
        manifest: all of it but the files.
        contents: by file name.
        sign: makes the signature of a manifest; None for a bundle without.

    Returns:
        The manifest with its files.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    manifest = replace(
        manifest,
        files={
            name: FileRecord(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
            for name, content in contents.items()
        },
    )
    own = {layout.MANIFEST: manifest.to_bytes()}
    if sign is not None:
        own[layout.SIGNATURE] = sign(manifest)
    output = output.resolve()  # a link to a bundle stays one
    with workspace(output.parent) as space:
        fresh = space / "new"
        fresh.mkdir()
        for name, content in {**contents, **own}.items():
            write_durably(fresh / name, content)
        sync_folder(fresh)
        if not _take(fresh, output) and not exchange(fresh, output):
            _replace(fresh, output, space / SET_ASIDE)
        sync_folder(output.parent)
    return manifest


def _take(fresh: Path, output: Path) -> bool:
    """Give a folder a name that is free, or that of an empty folder; whether it was."""
    try:
        fresh.rename(output)
    except OSError as problem:
        if problem.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _replace(fresh: Path, output: Path, aside: Path) -> None:
    aside.mkdir()
    output.rename(aside / output.name)
    try:
        fresh.rename(output)
    except BaseException:
        (aside / output.name).rename(output)
        raise
