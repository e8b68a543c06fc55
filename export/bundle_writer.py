"""Writing a bundle whole or not at all."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from stale_runtime.manifest import MANIFEST_NAME, FileRecord, Manifest
from stale_runtime.signatures import SIGNATURE_NAME


def can_be_bundle(output: Path) -> bool:
    """Whether a path is free for a bundle: nothing is there, or an empty folder, or a bundle and nothing else."""
    if not output.exists() and not output.is_symlink():
        return True
    if not output.is_dir():
        return False
    found = {path.name for path in output.iterdir()}
    return not found or found <= {MANIFEST_NAME, SIGNATURE_NAME, *_listed_files(output / MANIFEST_NAME)}


def _listed_files(manifest: Path) -> set[str]:
    """The files that a manifest lists, of whatever version; none if it is none of ours."""
    try:
        content = json.loads(manifest.read_bytes())
        return {MANIFEST_NAME, *content["files"]} if "manifest_sha256" in content else set()
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        return set()


def write_bundle(
    output: Path,
    manifest: Manifest,
    contents: Mapping[str, bytes],
    *,
    sign: Callable[[Manifest], bytes] | None = None,
) -> Manifest:
    """Write files and manifest beside the output, then rename.

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
    own = {MANIFEST_NAME: manifest.to_bytes()}
    if sign is not None:
        own[SIGNATURE_NAME] = sign(manifest)
    output = output.absolute()
    workspace = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name[:100]}.", suffix=".part"))
    try:
        fresh = workspace / "new"
        fresh.mkdir()
        for name, content in {**contents, **own}.items():
            _write_durably(fresh / name, content)
        if output.exists():
            output.rename(workspace / "old")
        try:
            fresh.rename(output)
        except BaseException:
            if (workspace / "old").exists():
                (workspace / "old").rename(output)
            raise
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
    return manifest


def _write_durably(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
