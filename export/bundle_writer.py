"""Writing a bundle completely or not at all."""

import errno
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from stale_export.exchange import exchange
from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import LARGEST_MANIFEST
from stale_runtime.bundle.manifest import FileRecord, Manifest
from stale_runtime.errors import BundleError, StaleError
from stale_runtime.system.files import read_bytes
from stale_runtime.system.workspace import sync_folder, workspace, write_durably


def can_be_bundle(output: Path) -> bool:
    """Whether a bundle may be written to a path: nothing is there, or an empty folder, or only a bundle."""
    if not output.exists() and not output.is_symlink():
        return True
    if not output.is_dir() or output.is_mount():
        return False
    found = {path.name for path in output.iterdir()}
    return not found or found <= {layout.MANIFEST, layout.SIGNATURE, *_listed_files(output / layout.MANIFEST)}


def _listed_files(manifest: Path) -> set[str]:
    """The files that a manifest of any version lists; none if it is not the manifest of a bundle."""
    try:
        content = json.loads(read_bytes(manifest, limit=LARGEST_MANIFEST, error=BundleError))
        return {layout.MANIFEST, *content["files"]} if "manifest_sha256" in content else set()
    except (StaleError, ValueError, RecursionError, TypeError, KeyError):
        return set()


def record_files(contents: Mapping[str, bytes]) -> dict[str, FileRecord]:
    """Checksum and size of files, by name, given their contents."""
    return {
        name: FileRecord(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        for name, content in contents.items()
    }


def write_bundle(
    output: Path,
    manifest: Manifest,
    contents: Mapping[str, bytes],
    *,
    sign: Callable[[Manifest], bytes] | None = None,
) -> Manifest:
    """Write a bundle into a temporary folder beside the output, then rename it.

    At every moment the output is the complete old bundle or the complete new one. If the file system cannot exchange
    two folders, it is missing for a moment; if the process is killed then, the old bundle is in ``old-bundle-...``.

    Args:
        output: the bundle's folder; see ``can_be_bundle``.
        manifest: the manifest; its list of files is made anew.
        contents: content of each file, by file name.
        sign: makes the signature for a manifest; None for an unsigned bundle.

    Returns:
        The manifest with its files.

    Raises:
        OSError: the bundle cannot be written; the old one is unchanged.
    """
    manifest = replace(manifest, files=record_files(contents))
    described = {layout.MANIFEST: manifest.to_bytes()}
    if sign is not None:
        described[layout.SIGNATURE] = sign(manifest)
    output = output.resolve()  # so that a link to a bundle stays a link
    with workspace(output.parent) as space:
        fresh = space / "new"
        fresh.mkdir()
        for name, content in {**contents, **described}.items():
            write_durably(fresh / name, content)
        sync_folder(fresh)
        if not _rename_if_free(fresh, output) and not exchange(fresh, output):
            _replace(fresh, output, space)
        sync_folder(output.parent)
    return manifest


def _rename_if_free(fresh: Path, output: Path) -> bool:
    """Rename a folder if the new name is free or belongs to an empty folder; return whether it did."""
    try:
        fresh.rename(output)
    except OSError as problem:
        if problem.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _replace(fresh: Path, output: Path, space: Path) -> None:
    """Replace a folder in two steps; until the second is done, the old one is kept outside of the workspace."""
    aside = output.with_name(f"old-bundle-{secrets.token_hex(4)}")
    output.rename(aside)
    try:
        fresh.rename(output)
    except BaseException:
        aside.rename(output)
        raise
    aside.rename(space / "old")
