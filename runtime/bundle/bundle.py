"""A bundle on disk: finding it, checking which files it has, and reading them with their checksums."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from stale_runtime.bundle import layout
from stale_runtime.bundle.held_folder import HeldFolder
from stale_runtime.bundle.manifest import Manifest
from stale_runtime.bundle.signatures import LARGEST_SIGNATURE, verify_signature
from stale_runtime.errors import COPY_AGAIN, BundleError, ChecksumError, SignatureError
from stale_runtime.system.files import MEGABYTE, reason

ENVIRONMENT = "STALE_BUNDLE"
DEFAULT_FOLDER = "stale_bundle"
LARGEST_MANIFEST = MEGABYTE
LARGEST_FILE = 4096 * MEGABYTE
MOST_FILES = 64
_ATTEMPTS = 20
"""How often to try: an export may remove the old bundle's files before all are open; then the new ones are opened."""


def find_bundle(given: str | os.PathLike[str] | None = None) -> Path:
    """The bundle's folder: the one given, else ``$STALE_BUNDLE``, else ``./stale_bundle``.

    Raises:
        BundleError: there is none; the message says where it was looked for.
    """
    if given is not None:
        path, place = Path(given), f"--bundle {given}"
    elif os.environ.get(ENVIRONMENT):
        path = Path(os.environ[ENVIRONMENT])
        place = f"${ENVIRONMENT} ({path})"
    else:
        path = Path(DEFAULT_FOLDER)
        place = f"./{DEFAULT_FOLDER} (neither --bundle nor ${ENVIRONMENT} is given)"
    if not os.path.lexists(path / layout.MANIFEST):
        remedy = "copy one there, or make one with stale-export --ckpt best.pth"
        if os.path.isfile(path):
            remedy = "that is a file, and a bundle is the folder that stale-export --ckpt best.pth writes"
        elif os.path.isdir(path):
            remedy = f"that folder has no {layout.MANIFEST}; give the folder that stale-export --ckpt best.pth wrote"
        raise BundleError(f"no bundle: looked in {place}; {remedy}")
    return path


class Bundle:
    """A folder that ``stale-export`` wrote. Its files are read whole, and only if their checksums are right.

    The vision towers may be missing or truncated, because they are large and only videos need them. This is an error
    when they are read or verified.

    All files are opened at once, so that they can still be read after another bundle has replaced this one. They are
    closed by ``close``, at the end of a ``with`` block, or when nothing refers to the bundle any more.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        expect_sha256: str | None = None,
        verify_key: str | os.PathLike[str] | None = None,
    ) -> None:
        """Read the manifest, and make sure that the folder contains exactly the files that it lists.

        Args:
            path: the folder.
            expect_sha256: the manifest's hash in hexadecimal digits, which identifies the whole bundle.
            verify_key: PEM file of a public key; the signature must match it, and every file is read and checked.

        Raises:
            BundleError: a file is missing, unlisted, a link, or not a regular file; the manifest cannot be read, or is
                not the expected one; the signature is missing or invalid.
            KeyFileError: the public key cannot be used.
        """
        self.path = Path(path)
        opened = _open(self.path, expect_sha256)
        self._held, self.manifest, self.manifest_sha256, self._signature_size, self._missing = opened
        if verify_key is not None:
            self._verify_signature(Path(verify_key))
            for _ in self.verify():
                pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files; none can be read any more."""
        self._held.close()

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            ChecksumError: the content differs from what was exported.
            BundleError: the bundle has no such file, or it cannot be read.
        """
        if name not in self.manifest.files:
            raise BundleError(f"{self.path}: the bundle has no {name}; {COPY_AGAIN}")
        self._require(name)
        data = self._read(name, self.manifest.files[name].size)
        self._check(name, hashlib.sha256(data).hexdigest())
        return data

    def verify(self) -> Iterator[str]:
        """Read every file, and yield its name once its checksum is found to be right.

        Raises:
            ChecksumError: a file differs from what was exported.
            BundleError: a file is missing, or cannot be read.
        """
        for name, record in self.manifest.files.items():
            self._require(name)
            digest = hashlib.sha256()
            try:
                for piece in self._held.pieces(name, record.size):
                    digest.update(piece)
            except OSError as problem:
                raise BundleError(f"{self.path / name}: {reason(problem)}") from problem
            self._check(name, digest.hexdigest())
            yield name

    def _require(self, name: str) -> None:
        """Make sure that a listed file was there when the bundle was opened."""
        if name in self._missing:
            raise BundleError(f"{self.path}: {name} is missing; {COPY_AGAIN}")

    def _read(self, name: str, size: int) -> bytes:
        try:
            return self._held.read(name, size)
        except OSError as problem:
            raise BundleError(f"{self.path / name}: {reason(problem)}") from problem

    def _check(self, name: str, sha256: str) -> None:
        if sha256 != self.manifest.files[name].sha256:
            raise ChecksumError(f"{self.path / name}: changed since it was exported; {COPY_AGAIN}")

    def _verify_signature(self, key: Path) -> None:
        place = self.path / layout.SIGNATURE
        if self._signature_size is None:
            raise SignatureError(f"{place}: the bundle is not signed; ask whoever made it for a signed one")
        signature = self._read(layout.SIGNATURE, self._signature_size)
        verify_signature(self.manifest, self.manifest_sha256, signature, key, place)


class _Opened(NamedTuple):
    """A bundle whose files are all open."""

    held: HeldFolder
    manifest: Manifest
    manifest_sha256: str
    signature_size: int | None
    """Bytes; None if there is no signature."""
    missing: frozenset[str]
    """Vision towers that are listed but not there."""


def _open(path: Path, expect_sha256: str | None) -> _Opened:
    try:
        for _ in range(_ATTEMPTS):
            held = HeldFolder(path)
            try:
                return _open_files(held, path, expect_sha256)
            except (BundleError, OSError):
                replaced = held.was_replaced()
                held.close()
                if not replaced:
                    raise
    except OSError as problem:
        raise BundleError(f"{path}: {reason(problem)}") from problem
    raise BundleError(f"{path}: replaced {_ATTEMPTS} times while it was opened; wait until the exports have ended")


def _open_files(held: HeldFolder, path: Path, expect_sha256: str | None) -> _Opened:
    manifest, sha256 = _read_manifest(held, path, expect_sha256)
    _check_names(path, manifest)
    found, expected = held.names(), manifest.files.keys()
    missing = frozenset(expected - found)
    if missing and held.was_replaced():  # they may have been removed after the listing
        raise BundleError(f"{path}: replaced while it was opened")
    for name in sorted(missing - set(layout.VISION_ENCODERS)):
        raise BundleError(f"{path}: {name} is missing; {COPY_AGAIN}")
    for name in sorted(found - expected - {layout.MANIFEST, layout.SIGNATURE}):
        raise BundleError(f"{path}: {name[:80]!r} is not in the manifest; remove it, or {COPY_AGAIN}")
    for name, record in manifest.files.items():
        if name in missing:
            continue
        size = _hold(held, path, name)
        if size != record.size and name not in layout.VISION_ENCODERS:
            raise ChecksumError(f"{path / name}: {size:,} bytes, expected {record.size:,}; {COPY_AGAIN}")
    signature_size = _hold(held, path, layout.SIGNATURE, most=LARGEST_SIGNATURE) if layout.SIGNATURE in found else None
    return _Opened(held, manifest, sha256, signature_size, missing)


def _read_manifest(held: HeldFolder, path: Path, expect_sha256: str | None) -> tuple[Manifest, str]:
    data = held.read(layout.MANIFEST, _hold(held, path, layout.MANIFEST, most=LARGEST_MANIFEST))
    found = hashlib.sha256(data).hexdigest()
    if expect_sha256 is not None and found != expect_sha256.lower():
        raise ChecksumError(f"{path}: sha256 {found}, expected {expect_sha256.lower()}; give the path of that bundle")
    try:
        return Manifest.from_bytes(data), found
    except BundleError as problem:
        raise type(problem)(f"{path}: {problem}") from None


def _check_names(path: Path, manifest: Manifest) -> None:
    if len(manifest.files) > MOST_FILES:
        raise BundleError(
            f"{path}: the manifest lists {len(manifest.files)} files, expected at most {MOST_FILES}; {COPY_AGAIN}"
        )
    for name, record in manifest.files.items():
        if name != os.path.basename(name) or "\\" in name or name[:1] in ("", ".") or not name.isprintable():
            raise BundleError(f"{path}: the manifest names {name[:80]!r}, expected plain file names; {COPY_AGAIN}")
        if name in (layout.MANIFEST, layout.SIGNATURE) or not 0 <= record.size <= LARGEST_FILE:
            raise BundleError(f"{path}: the manifest cannot list {name} with {record.size} bytes; {COPY_AGAIN}")


def _hold(held: HeldFolder, path: Path, name: str, *, most: int = LARGEST_FILE) -> int:
    """Open a file and return its size in bytes."""
    size = held.hold(name)
    if size is None:
        raise BundleError(f"{path}: {name} is a link or not a regular file; {COPY_AGAIN}")
    if size > most:
        raise BundleError(f"{path / name}: {size:,} bytes, expected at most {most:,}; {COPY_AGAIN}")
    return size
