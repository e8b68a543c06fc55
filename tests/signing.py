"""Key pairs for tests that sign bundles, which are skipped where model-signing is not installed."""

from pathlib import Path
from typing import NamedTuple

import pytest


class KeyPair(NamedTuple):
    """Files of a private and a public key."""

    private: Path
    public: Path


def make_keys(folder: Path, curve: str = "SECP256R1", *, password: bytes | None = None) -> KeyPair:
    """Write a new key pair in PEM format; the private key is encrypted if there is a password."""
    pytest.importorskip("model_signing", reason="needs the extra: pip install 'stale-edge[sign]'")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(getattr(ec, curve)())
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    folder.mkdir(parents=True, exist_ok=True)
    pair = KeyPair(folder / "key.pem", folder / "key.pub")
    pem = serialization.Encoding.PEM
    pair.private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, encryption))
    pair.public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return pair
