"""Signatures of bundles with a key pair, as Sigstore's ``model_signing`` writes and verifies them.

A signature covers the digests of all files, as ``model_signing`` would compute them from the folder, so that its own
command accepts our signatures and we accept its. Here they come from the manifest: no file is read twice, and the files
that the bundle loads are the verified ones.
"""

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import Manifest
from stale_runtime.errors import KeyFileError, MissingPackageError, SignatureError
from stale_runtime.system.files import MEGABYTE, read_bytes
from stale_runtime.system.workspace import workspace

if TYPE_CHECKING:
    import model_signing.manifest

LARGEST_SIGNATURE = 4 * MEGABYTE
_LARGEST_KEY = 2**16


class Signer:
    """A private key, ready to sign."""

    def __init__(self, key: Path) -> None:
        """Read the key.

        Args:
            key: PEM file of an elliptic-curve key (P-256, P-384 or P-521) without a password.

        Raises:
            KeyFileError: the file is not such a key.
            MissingPackageError: ``model_signing`` is not installed.
        """
        _require()
        from model_signing.signing import Config

        read_bytes(key, limit=_LARGEST_KEY, error=KeyFileError)
        try:
            self._config = Config().use_elliptic_key_signer(private_key=key)
        except Exception as problem:  # cryptography raises many kinds
            raise _key_error(key, "private", problem) from problem

    def sign(self, manifest: Manifest) -> bytes:
        """The content of ``model.sig`` for a bundle with this manifest."""
        config: Any = self._config.set_hashing_config(_KnownDigests(_all_digests(manifest, manifest.sha256)))  # type: ignore[arg-type]
        with workspace() as folder:
            signature = folder / layout.SIGNATURE
            config.sign("bundle", signature)
            return signature.read_bytes()


def verify_signature(manifest: Manifest, sha256: str, signature: bytes, key: Path, place: Path) -> None:
    """Make sure that a bundle was signed with the private key of a pair, and not changed since.

    Args:
        manifest: the bundle's manifest.
        sha256: digest of ``manifest.json`` as it was read.
        signature: content of ``model.sig``.
        key: PEM file of the public key.
        place: path of the signature, for messages.

    Raises:
        SignatureError: the signature was made with another key or for other files; or ``model_signing`` is not
            installed.
        KeyFileError: the key cannot be used.
    """
    _require()
    from model_signing.verifying import Config

    read_bytes(key, limit=_LARGEST_KEY, error=KeyFileError)
    try:
        config: Any = Config().use_elliptic_key_verifier(public_key=key)
    except Exception as problem:  # cryptography raises many kinds
        raise _key_error(key, "public", problem) from problem
    config.set_hashing_config(_KnownDigests(_all_digests(manifest, sha256)))
    with workspace() as folder:
        written = folder / layout.SIGNATURE
        written.write_bytes(signature)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints warnings
                config.verify("bundle", written)
        except Exception as problem:  # it raises many kinds for malformed signatures
            text = " ".join(str(problem).split())[:200] or type(problem).__name__
            raise SignatureError(
                f"{place}: not valid for {key} ({text}); get the bundle, or the key, from someone you trust"
            ) from problem


class _KnownDigests:
    """A replacement for ``model_signing.hashing.Config`` with digests that are known already."""

    def __init__(self, digests: Mapping[str, str]) -> None:
        self._digests = digests  # SHA-256 in hexadecimal digits, by file name

    def hash(self, _model_path: object, **_options: object) -> "model_signing.manifest.Manifest":
        """The digests that ``model_signing`` would compute from the folder."""
        from model_signing._hashing.hashing import Digest
        from model_signing.manifest import Manifest, SerializationType

        kind = SerializationType.from_args({"method": "files", "hash_type": "sha256", "allow_symlinks": False})
        items = [kind.new_item(name, Digest("sha256", bytes.fromhex(sha256))) for name, sha256 in self._digests.items()]
        return Manifest("bundle", items, kind)

    def add_ignored_paths(self, *, model_path: object, paths: object) -> None:
        """Do nothing, so that a signature cannot exempt files."""


def _all_digests(manifest: Manifest, sha256: str) -> dict[str, str]:
    files = {name: record.sha256 for name, record in manifest.files.items()}
    return {layout.MANIFEST: sha256, **files}


def _require() -> None:
    try:
        import model_signing  # noqa: F401
    except ModuleNotFoundError as problem:
        raise MissingPackageError.for_extra(f"signatures need {problem.name}", "sign") from problem


def _key_error(key: Path, kind: str, problem: Exception) -> KeyFileError:
    text = " ".join(str(problem).split())[:120] or type(problem).__name__
    return KeyFileError(
        f"{key}: not a usable {kind} key ({text}); expected a PEM file of an elliptic-curve key without a password"
    )
