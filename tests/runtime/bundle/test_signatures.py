import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.signatures import Signer
from stale_runtime.errors import BundleError, ChecksumError, KeyFileError, MissingPackageError, SignatureError
from stale_runtime.inference.localizer import Localizer
from tests.runtime.bundle.test_manifest import encoded
from tests.runtime.helpers import altered, with_file
from tests.signing import KeyPair, make_keys


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it goes to the network")

    for name in ("getaddrinfo", "create_connection", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def signed(bundle: Path, keys: KeyPair, tmp_path: Path) -> Path:
    """A copy of a bundle, signed."""
    return sign(Path(shutil.copytree(bundle, tmp_path / "signed")), keys)


def sign(bundle: Path, keys: KeyPair) -> Path:
    (bundle / layout.SIGNATURE).write_bytes(Signer(keys.private).sign(Bundle(bundle).manifest))
    return bundle


def test_a_signed_bundle_is_a_bundle_with_key_and_without(signed: Path, keys: KeyPair) -> None:
    assert Bundle(signed, verify_key=keys.public).manifest == Bundle(signed).manifest
    assert layout.SIGNATURE not in Bundle(signed).manifest.files
    assert Localizer.open(signed, verify_key=keys.public).backend == "ort-fp32"


@pytest.mark.parametrize("curve", ["SECP384R1", "SECP521R1"])
def test_longer_keys_sign_as_well(bundle: Path, tmp_path: Path, curve: str) -> None:
    pair = make_keys(tmp_path / "keys", curve)
    Bundle(sign(Path(shutil.copytree(bundle, tmp_path / "signed")), pair), verify_key=pair.public)


def test_an_unsigned_bundle_is_refused(bundle: Path, keys: KeyPair) -> None:
    with pytest.raises(SignatureError, match=r"model\.sig: the bundle is not signed; ask whoever made it"):
        Bundle(bundle, verify_key=keys.public)


def test_another_key_s_signature_is_refused(signed: Path, tmp_path: Path) -> None:
    other = make_keys(tmp_path / "other")
    with pytest.raises(SignatureError, match=rf"model\.sig: not valid for {other.public} \(.*; get the bundle"):
        Bundle(signed, verify_key=other.public)


def test_another_key_that_claims_to_be_the_right_one_is_refused(signed: Path, keys: KeyPair, tmp_path: Path) -> None:
    hint = json.loads((signed / layout.SIGNATURE).read_text())["verificationMaterial"]["publicKey"]["hint"]
    sign(signed, make_keys(tmp_path / "other"))
    forged = json.loads((signed / layout.SIGNATURE).read_text())
    forged["verificationMaterial"]["publicKey"]["hint"] = hint
    (signed / layout.SIGNATURE).write_text(json.dumps(forged))
    with pytest.raises(SignatureError, match="not valid"):
        Bundle(signed, verify_key=keys.public)


def test_a_changed_file_is_refused_even_one_that_is_not_used(signed: Path, keys: KeyPair) -> None:
    data = (signed / "selftest.npz").read_bytes()
    (signed / "selftest.npz").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    Localizer.open(signed)
    with pytest.raises(ChecksumError, match=r"selftest\.npz: changed"):
        Localizer.open(signed, verify_key=keys.public)


def test_a_changed_file_with_a_manifest_that_agrees_is_refused(
    signed: Path, bundle: Path, keys: KeyPair, tmp_path: Path
) -> None:
    changes = (
        with_file(bundle, tmp_path / "file", "prompts.npz", b"mine"),
        altered(bundle, tmp_path / "manifest", temporal_scale=17),
        with_file(bundle, tmp_path / "more", "more.npz", b""),
    )
    for changed in changes:
        shutil.copy(signed / layout.SIGNATURE, changed)
        Bundle(changed)
        with pytest.raises(SignatureError, match=r"not valid for .* \(Signature mismatch"):
            Bundle(changed, verify_key=keys.public)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b"\xff", b'{"verificationMaterial": {}}', b"[" * 10_000, b"0" * 2**23]
)
def test_what_is_no_signature_is_refused(signed: Path, keys: KeyPair, content: bytes) -> None:
    (signed / layout.SIGNATURE).write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.sig"):
        Bundle(signed, verify_key=keys.public)


def test_a_flipped_byte_in_a_signature_is_refused_or_changes_nothing(signed: Path, keys: KeyPair) -> None:
    """What is signed is safe; of what is around it a little is not looked at, such as the names of empty fields."""
    data = (signed / layout.SIGNATURE).read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for position in generator.integers(len(data), size=200):
        flipped = bytearray(data)
        flipped[position] ^= int(generator.integers(1, 256))
        (signed / layout.SIGNATURE).write_bytes(flipped)
        try:
            Bundle(signed, verify_key=keys.public)
        except SignatureError:
            refused += 1
    assert refused > 190


def test_nothing_is_said_on_stdout(signed: Path, keys: KeyPair, capsys: pytest.CaptureFixture[str]) -> None:
    """Where results go, and where model-signing warns of a signature without a hint."""
    content = json.loads((signed / layout.SIGNATURE).read_text())
    del content["verificationMaterial"]["publicKey"]["hint"]
    (signed / layout.SIGNATURE).write_text(json.dumps(content))
    Bundle(signed, verify_key=keys.public)
    assert capsys.readouterr() == ("", "")


def test_model_signing_s_own_command_takes_ours_and_we_take_its(signed: Path, keys: KeyPair) -> None:
    theirs = [sys.executable, "-m", "model_signing"]
    signature = ["--signature", str(signed / layout.SIGNATURE)]
    subprocess.run([*theirs, "verify", "key", signed, *signature, "--public_key", keys.public], check=True)
    (signed / layout.SIGNATURE).unlink()
    subprocess.run([*theirs, "sign", "key", signed, *signature, "--private_key", keys.private], check=True)
    Bundle(signed, verify_key=keys.public)
    os.truncate(signed / "selftest.npz", 3)
    done = subprocess.run([*theirs, "verify", "key", signed, *signature, "--public_key", keys.public], check=False)
    assert done.returncode != 0


def test_a_key_that_cannot_be_used_is_named(signed: Path, keys: KeyPair, tmp_path: Path) -> None:
    encrypted = make_keys(tmp_path / "encrypted", password=b"secret")
    other_curve = make_keys(tmp_path / "other", "SECP256K1")
    (tmp_path / "rubbish").write_bytes(b"\xff")
    manifest = Bundle(signed).manifest
    unusable = (tmp_path / "rubbish", tmp_path / "none", tmp_path)
    for private in (encrypted.private, other_curve.private, keys.public, *unusable):
        with pytest.raises(KeyFileError, match=str(private)):
            Signer(private).sign(manifest)
    for public in (other_curve.public, keys.private, *unusable):
        with pytest.raises(KeyFileError, match=str(public)):
            Bundle(signed, verify_key=public)


def test_without_the_extra_it_is_named(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = Path(shutil.copytree(bundle, tmp_path / "signed"))
    (signed / layout.SIGNATURE).write_text("{}")
    monkeypatch.setitem(sys.modules, "model_signing", None)
    remedy = r"signatures need model_signing, which is not installed; .* pip install 'stale-edge\[sign\]'"
    with pytest.raises(MissingPackageError, match=remedy):
        Bundle(signed, verify_key=tmp_path / "key.pub")
    with pytest.raises(MissingPackageError, match=remedy):
        Signer(tmp_path / "key.pem")
    Bundle(signed)


def test_a_manifest_that_says_the_same_in_another_way_is_not_what_was_signed(signed: Path, keys: KeyPair) -> None:
    path = signed / "manifest.json"
    content = json.loads(path.read_bytes())
    path.write_bytes(encoded(dict(reversed(content.items()))))
    Bundle(signed)
    with pytest.raises(SignatureError, match=r"not valid for .* \(Signature mismatch"):
        Bundle(signed, verify_key=keys.public)


def test_signing_and_verifying_leave_no_temporary_file(
    signed: Path, keys: KeyPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    (temporary / ".stale-abcdefgh.part").mkdir(parents=True)  # as a killed run leaves it
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    Bundle(sign(signed, keys), verify_key=keys.public)
    assert list(temporary.iterdir()) == []
