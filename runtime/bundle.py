"""A bundle on disk: finding it, refusing what does not belong there, reading only what was hashed."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from stale_runtime.errors import BundleError, ChecksumError
from stale_runtime.files import MEGABYTE, read_bytes, reason
from stale_runtime.manifest import MANIFEST_NAME, Manifest

ENVIRONMENT = "STALE_BUNDLE"
DEFAULT_FOLDER = "stale_bundle"
LARGEST_MANIFEST = 4 * MEGABYTE
LARGEST_FILE = 4096 * MEGABYTE


def find_bundle(given: Path | None = None) -> Path:
    """The bundle's folder: the one given, else ``$STALE_BUNDLE``, else ``./stale_bundle``.

    Raises:
        BundleError: there is none; the message says where was looked.
    """
    if given is not None:
        path, looked = given, f"--bundle {given}"
    elif os.environ.get(ENVIRONMENT):
        path = Path(os.environ[ENVIRONMENT])
        looked = f"${ENVIRONMENT} ({path})"
    else:
        path = Path(DEFAULT_FOLDER)
        looked = f"./{DEFAULT_FOLDER} (neither --bundle nor ${ENVIRONMENT} is given)"
    if not (path / MANIFEST_NAME).exists():
        raise BundleError(f"no bundle: looked in {looked}; make one with stale-export --ckpt best.pth")
    return path


class Bundle:
    """A folder that ``stale-export`` wrote. Its files are read whole, and only if they are what the manifest says."""

    def __init__(self, path: Path) -> None:
        """Read the manifest and make sure that the folder holds the files it lists, and no other.

        Raises:
            BundleError: something is missing, unlisted, a link, or no plain file; or the manifest is not readable.
        """
        self.path = path
        data = read_bytes(path / MANIFEST_NAME, limit=LARGEST_MANIFEST, error=BundleError)
        self.manifest_sha256 = hashlib.sha256(data).hexdigest()
        try:
            self.manifest = Manifest.from_bytes(data)
        except BundleError as problem:
            raise type(problem)(f"{path}: {problem}") from None
        self._check_names()
        self._check_folder()

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            ChecksumError: it is not what the manifest says.
            BundleError: the bundle has no such file.
        """
        if name not in self.manifest.files:
            raise BundleError(f"{self.path}: the bundle has no {name}; export it again")
        record = self.manifest.files[name]
        data = read_bytes(self.path / name, limit=record.size, error=ChecksumError)
        if len(data) != record.size or hashlib.sha256(data).hexdigest() != record.sha256:
            raise ChecksumError(
                f"{self.path / name}: changed since it was exported; copy the bundle again, or export it again"
            )
        return data

    def verify(self) -> Iterator[str]:
        """Read every file, yielding the name of each that is what the manifest says.

        Raises:
            ChecksumError: one is not.
        """
        for name in self.manifest.files:
            self.read(name)
            yield name

    def _check_names(self) -> None:
        for name, record in self.manifest.files.items():
            if not name or name != os.path.basename(name) or "\\" in name or name.startswith(".") or "\0" in name:
                raise BundleError(f"{self.path}: the manifest names {name[:80]!r}, expected plain file names")
            if name == MANIFEST_NAME or not 0 <= record.size <= LARGEST_FILE:
                raise BundleError(f"{self.path}: the manifest cannot list {name} with {record.size} bytes")

    def _check_folder(self) -> None:
        try:
            with os.scandir(self.path) as entries:
                found = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
        except OSError as problem:
            raise BundleError(f"{self.path}: {reason(problem)}") from problem
        found.pop(MANIFEST_NAME, None)
        for name in sorted(self.manifest.files.keys() - found.keys()):
            raise BundleError(f"{self.path}: {name} is missing; copy the bundle again, or export it again")
        for name in sorted(found.keys() - self.manifest.files.keys()):
            raise BundleError(f"{self.path}: {name[:80]!r} is not in the manifest; remove it, or export again")
        for name, status in found.items():
            if not stat.S_ISREG(status.st_mode):
                raise BundleError(f"{self.path}: {name} is a link or no plain file; export the bundle again")
            if status.st_size != self.manifest.files[name].size:
                raise ChecksumError(
                    f"{self.path / name}: {status.st_size:,} bytes, expected {self.manifest.files[name].size:,}; "
                    "copy the bundle again, or export it again"
                )
