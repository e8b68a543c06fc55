import shutil
from pathlib import Path

import pytest

from stale_runtime.bundle import Bundle, find_bundle
from stale_runtime.errors import BundleError, BundleVersionError, ChecksumError
from stale_runtime.manifest import FORMAT_VERSION


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_every_file_reads_as_it_was_written(bundle: Path) -> None:
    opened = Bundle(bundle)
    assert set(opened.verify()) == {path.name for path in bundle.iterdir()} - {"manifest.json"}


def test_a_flipped_byte_is_found_in_every_file(copy: Path) -> None:
    for name in list(Bundle(copy).manifest.files):
        flip(copy / name, (copy / name).stat().st_size // 2)
        with pytest.raises(ChecksumError, match=name):
            list(Bundle(copy).verify())
        flip(copy / name, (copy / name).stat().st_size // 2)
    list(Bundle(copy).verify())


def test_a_flipped_byte_is_found_anywhere_in_the_manifest(copy: Path) -> None:
    manifest = copy / "manifest.json"
    for position in range(manifest.stat().st_size):
        flip(manifest, position)
        with pytest.raises(BundleError):
            list(Bundle(copy).verify())
        flip(manifest, position)
    list(Bundle(copy).verify())


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "prompts.npz").unlink()
    with pytest.raises(BundleError, match=r"prompts\.npz is missing"):
        Bundle(copy)


def test_a_file_too_many_is_named(copy: Path) -> None:
    (copy / "extra.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"'extra\.onnx' is not in the manifest"):
        Bundle(copy)


def test_links_are_not_followed(copy: Path, tmp_path: Path) -> None:
    (copy / "prompts.npz").rename(tmp_path / "elsewhere")
    (copy / "prompts.npz").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="link"):
        Bundle(copy)


def test_a_newer_format_is_refused_with_the_remedy(copy: Path) -> None:
    manifest = copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"format_version": {FORMAT_VERSION}', '"format_version": 99'))
    with pytest.raises(BundleVersionError, match=r"format_version 99.*update stale-edge"):
        Bundle(copy)


def test_no_bundle_says_where_was_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match=r"\./stale_bundle"):
        find_bundle()
    with pytest.raises(BundleError, match="nowhere"):
        find_bundle(Path("nowhere"))
    monkeypatch.setenv("STALE_BUNDLE", "/not/here")
    with pytest.raises(BundleError, match=r"\$STALE_BUNDLE \(/not/here\)"):
        find_bundle()


def test_the_environment_variable_comes_before_the_default(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(bundle, tmp_path / "stale_bundle")
    assert find_bundle() == Path("stale_bundle")
    monkeypatch.setenv("STALE_BUNDLE", str(bundle))
    assert find_bundle() == bundle
    assert find_bundle(Path("stale_bundle")) == Path("stale_bundle")
