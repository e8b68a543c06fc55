"""A bundle on disk: finding it, refusing what does not belong there, reading only what was hashed."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from stale_runtime.bundle import layout
from stale_runtime.bundle.held_folder import HeldFolder
from stale_runtime.bundle.manifest import Manifest
from stale_runtime.bundle.signatures import LARGEST_SIGNATURE, verify_signature
from stale_runtime.errors import BundleError, ChecksumError, SignatureError
from stale_runtime.system.files import MEGABYTE, reason

ENVIRONMENT = "STALE_BUNDLE"
DEFAULT_FOLDER = "stale_bundle"
LARGEST_MANIFEST = MEGABYTE
LARGEST_FILE = 4096 * MEGABYTE
MOST_FILES = 64
_ATTEMPTS = 20
"""At opening a bundle while others are put in its place."""


def find_bundle(given: str | os.PathLike[str] | None = None) -> Path:
    """The bundle's folder: the one given, else ``$STALE_BUNDLE``, else ``./stale_bundle``.

    Raises:
        BundleError: there is none; the message says where was looked.
    """
    if given is not None:
        path, looked = Path(given), f"--bundle {given}"
    elif os.environ.get(ENVIRONMENT):
        path = Path(os.environ[ENVIRONMENT])
        looked = f"${ENVIRONMENT} ({path})"
    else:
        path = Path(DEFAULT_FOLDER)
        looked = f"./{DEFAULT_FOLDER} (neither --bundle nor ${ENVIRONMENT} is given)"
    if not os.path.lexists(path / layout.MANIFEST):
        raise BundleError(f"no bundle: looked in {looked}; make one with stale-export --ckpt best.pth")
    return path


class Bundle:
    """A folder that ``stale-export`` wrote. Its files are read whole, and only if they are what the manifest says.

    All files are opened with the bundle: where another is put in its place later, this one is still read. They are
    closed with ``close``, at the end of a ``with``, or when nobody refers to the bundle any more.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        expect_sha256: str | None = None,
        verify_key: str | os.PathLike[str] | None = None,
    ) -> None:
        """Read the manifest and make sure that the folder holds the files it lists, and no other.

        Args:
            path: the folder.
            expect_sha256: the manifest's hash in hexadecimal digits, which pins all of the bundle.
            verify_key: file of a public key that the bundle must be signed with; all of it is read and checked then.

        Raises:
            BundleError: something is missing, unlisted, a link, or no plain file; the manifest is not readable, or not
                the one expected; the signature is missing or does not hold.
            KeyFileError: the public key cannot be used.
        """
        self.path = Path(path)
        self._held, self.manifest, self.manifest_sha256, self._signature_size = _open(self.path, expect_sha256)
        if verify_key is not None:
            self._verify_signature(Path(verify_key))
            for _ in self.verify():
                pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files; from then on none can be read."""
        self._held.close()

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            ChecksumError: it is not what the manifest says.
            BundleError: the bundle has no such file.
        """
        if name not in self.manifest.files:
            raise BundleError(f"{self.path}: the bundle has no {name}; export it again")
        data = self._read(name, self.manifest.files[name].size)
        self._check(name, hashlib.sha256(data).hexdigest())
        return data

    def verify(self) -> Iterator[str]:
        """Read every file, yielding the name of each that is what the manifest says.

        Raises:
            ChecksumError: one is not.
        """
        for name, record in self.manifest.files.items():
            digest = hashlib.sha256()
            try:
                for piece in self._held.pieces(name, record.size):
                    digest.update(piece)
            except OSError as problem:
                raise BundleError(f"{self.path / name}: {reason(problem)}") from problem
            self._check(name, digest.hexdigest())
            yield name

    def _read(self, name: str, size: int) -> bytes:
        try:
            return self._held.read(name, size)
        except OSError as problem:
            raise BundleError(f"{self.path / name}: {reason(problem)}") from problem

    def _check(self, name: str, sha256: str) -> None:
        if sha256 != self.manifest.files[name].sha256:
            raise ChecksumError(
                f"{self.path / name}: changed since it was exported; copy the bundle again, or export it again"
            )

    def _verify_signature(self, key: Path) -> None:
        place = self.path / layout.SIGNATURE
        if self._signature_size is None:
            raise SignatureError(f"{place}: the bundle is not signed; export it with stale-export --sign KEY")
        signature = self._read(layout.SIGNATURE, self._signature_size)
        verify_signature(self.manifest, self.manifest_sha256, signature, key, place)


class _Opened(NamedTuple):
    """A bundle's files, all open."""

    held: HeldFolder
    manifest: Manifest
    manifest_sha256: str
    signature_size: int | None
    """Bytes; None if there is no signature."""


def _open(path: Path, expect_sha256: str | None) -> _Opened:
    """Open a bundle's files; again, if another bundle was put in its place meanwhile."""
    for attempt in range(_ATTEMPTS):
        try:
            held = HeldFolder(path)
        except OSError as problem:
            raise BundleError(f"{path}: {reason(problem)}") from problem
        try:
            return _open_files(held, path, expect_sha256)
        except (BundleError, OSError) as problem:
            replaced = held.was_replaced()
            held.close()
            if replaced and attempt < _ATTEMPTS - 1:
                continue
            if isinstance(problem, BundleError):
                raise
            raise BundleError(f"{path}: {reason(problem)}") from problem
    raise AssertionError("the last attempt returns or raises")


def _open_files(held: HeldFolder, path: Path, expect_sha256: str | None) -> _Opened:
    manifest, sha256 = _read_manifest(held, path, expect_sha256)
    _check_names(path, manifest)
    found, expected = held.names(), manifest.files.keys()
    for name in sorted(expected - found):
        raise BundleError(f"{path}: {name} is missing; copy the bundle again, or export it again")
    for name in sorted(found - expected - {layout.MANIFEST, layout.SIGNATURE}):
        raise BundleError(f"{path}: {name[:80]!r} is not in the manifest; remove it, or export again")
    for name, record in manifest.files.items():
        size = _hold(held, path, name)
        if size != record.size:
            raise ChecksumError(
                f"{path / name}: {size:,} bytes, expected {record.size:,}; copy the bundle again, or export it again"
            )
    signature_size = _hold(held, path, layout.SIGNATURE, most=LARGEST_SIGNATURE) if layout.SIGNATURE in found else None
    return _Opened(held, manifest, sha256, signature_size)


def _read_manifest(held: HeldFolder, path: Path, expect_sha256: str | None) -> tuple[Manifest, str]:
    data = held.read(layout.MANIFEST, _hold(held, path, layout.MANIFEST, most=LARGEST_MANIFEST))
    found = hashlib.sha256(data).hexdigest()
    if expect_sha256 is not None and found != expect_sha256.lower():
        raise ChecksumError(f"{path}: sha256 {found}, expected {expect_sha256.lower()}; get the bundle that was meant")
    try:
        return Manifest.from_bytes(data), found
    except BundleError as problem:
        raise type(problem)(f"{path}: {problem}") from None


def _check_names(path: Path, manifest: Manifest) -> None:
    if len(manifest.files) > MOST_FILES:
        raise BundleError(f"{path}: the manifest lists {len(manifest.files)} files, expected at most {MOST_FILES}")
    for name, record in manifest.files.items():
        if name != os.path.basename(name) or "\\" in name or name[:1] in ("", ".") or not name.isprintable():
            raise BundleError(f"{path}: the manifest names {name[:80]!r}, expected plain file names")
        if name in (layout.MANIFEST, layout.SIGNATURE) or not 0 <= record.size <= LARGEST_FILE:
            raise BundleError(f"{path}: the manifest cannot list {name} with {record.size} bytes")


def _hold(held: HeldFolder, path: Path, name: str, *, most: int = LARGEST_FILE) -> int:
    """Open a file and give its size."""
    size = held.hold(name)
    if size is None:
        raise BundleError(f"{path}: {name} is a link or no plain file; export the bundle again")
    if size > most:
        raise BundleError(f"{path / name}: {size:,} bytes, expected at most {most:,}; export the bundle again")
    return size
