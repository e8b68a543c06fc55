import hashlib
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import LARGEST_MANIFEST, MOST_FILES, Bundle, find_bundle
from stale_runtime.bundle.held_folder import HeldFolder
from stale_runtime.bundle.manifest import FORMAT_VERSION, FileRecord, Manifest
from stale_runtime.errors import BundleError, BundleVersionError, ChecksumError
from tests.runtime.helpers import altered, make_fifo, no_waiting, with_file


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def test_every_file_reads_as_it_was_written(bundle: Path) -> None:
    opened = Bundle(bundle)
    assert set(opened.verify()) == {path.name for path in bundle.iterdir()} - {"manifest.json"}


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "prompts.npz").unlink()
    with pytest.raises(BundleError, match=r"prompts\.npz is missing"):
        Bundle(copy)


def test_a_file_too_many_is_named(copy: Path) -> None:
    (copy / "extra.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"'extra\.onnx' is not in the manifest"):
        Bundle(copy)


@pytest.mark.parametrize("name", ["prompts.npz", "manifest.json", layout.SIGNATURE])
def test_links_are_not_followed(copy: Path, tmp_path: Path, name: str) -> None:
    (copy / name).touch()
    (copy / name).rename(tmp_path / "elsewhere")
    (copy / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=f"{name} is a link or not a regular file"):
        Bundle(copy)


def test_the_bundle_itself_may_be_a_link(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(copy)
    assert Bundle(tmp_path / "link").manifest == Bundle(copy).manifest


@pytest.mark.parametrize("name", ["prompts.npz", "manifest.json", layout.SIGNATURE])
def test_pipes_and_folders_are_no_files(copy: Path, name: str) -> None:
    (copy / name).unlink(missing_ok=True)
    make_fifo(copy / name)
    with no_waiting(), pytest.raises(BundleError, match=f"{name} is a link or not a regular file"):
        Bundle(copy)
    (copy / name).unlink()
    (copy / name).mkdir()
    with pytest.raises(BundleError, match=f"{name} is a link or not a regular file"):
        Bundle(copy)


def test_devices_are_no_files(copy: Path) -> None:
    (copy / "prompts.npz").unlink()
    try:
        os.mknod(copy / "prompts.npz", stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("only root makes devices")
    with pytest.raises(BundleError, match=r"prompts\.npz is a link or not a regular file"):
        Bundle(copy)


def test_a_file_that_becomes_a_link_while_it_is_opened_is_not_followed(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").write_bytes((copy / "prompts.npz").read_bytes())
    look = os.stat

    def look_and_swap(path: Any, **options: Any) -> os.stat_result:
        seen = look(path, **options)
        if path == "prompts.npz":
            (copy / path).unlink()
            (copy / path).symlink_to(tmp_path / "elsewhere")
        return seen

    monkeypatch.setattr(os, "stat", look_and_swap)
    with pytest.raises(BundleError):
        Bundle(copy)


@pytest.mark.parametrize(
    "name",
    [
        *("../prompts.npz", "..", ".", "/etc/passwd", "a/b", "a\\b", ".hidden", "", "manifest.json", layout.SIGNATURE),
        *("a\0b", "a\nok", "x\x1b]0;evil\x07", "\u202etxt.npz"),
    ],
)
def test_a_manifest_cannot_name_what_is_elsewhere(bundle: Path, tmp_path: Path, name: str) -> None:
    files = {**Bundle(bundle).manifest.files, name: FileRecord(sha256="0" * 64, size=0)}
    with pytest.raises(BundleError, match=r"the manifest (names|cannot list)"):
        Bundle(altered(bundle, tmp_path / "copy", files=files))


@pytest.mark.parametrize("size", [-1, 2**60])
def test_a_manifest_cannot_list_any_size(bundle: Path, tmp_path: Path, size: int) -> None:
    files = {**Bundle(bundle).manifest.files, "x": FileRecord(sha256="0" * 64, size=size)}
    with pytest.raises(BundleError, match="cannot list x with"):
        Bundle(altered(bundle, tmp_path / "copy", files=files))


def test_a_manifest_cannot_take_all_descriptors(bundle: Path, tmp_path: Path) -> None:
    files = {f"f{n}": FileRecord(sha256="0" * 64, size=0) for n in range(MOST_FILES + 1)}
    with pytest.raises(BundleError, match=f"lists {MOST_FILES + 1} files, expected at most {MOST_FILES}"):
        Bundle(altered(bundle, tmp_path / "copy", files=files))


def test_a_manifest_cannot_be_huge(copy: Path) -> None:
    (copy / "manifest.json").write_bytes(bytes(LARGEST_MANIFEST + 1))
    with pytest.raises(BundleError, match="expected at most"):
        Bundle(copy)


@pytest.mark.parametrize("key", ["decoder", "files", "manifest_sha256", "prompts.npz"])
def test_a_name_that_is_there_twice_is_refused(copy: Path, key: str) -> None:
    """Of two, JSON readers take the last."""
    manifest = copy / "manifest.json"
    text = manifest.read_text()
    value = json.dumps({"files": {}, "prompts.npz": {"sha256": "0" * 64, "size": 0}}.get(key, "x"))
    manifest.write_text(text.replace(f'"{key}": ', f'"{key}": {value}, "{key}": ', 1))
    assert Manifest.from_bytes(text.encode()).decoder == json.loads(manifest.read_text())["decoder"]
    with pytest.raises(ChecksumError, match="damaged or edited by hand"):
        Bundle(copy)


def test_what_was_opened_is_what_is_read(copy: Path, bundle: Path, tmp_path: Path) -> None:
    """A bundle that is replaced and removed meanwhile is read as it was."""
    opened = Bundle(copy)
    copy.rename(tmp_path / "old")
    with_file(bundle, copy, "prompts.npz", b"another")
    shutil.rmtree(tmp_path / "old")
    assert opened.read("prompts.npz") == (bundle / "prompts.npz").read_bytes()
    assert set(opened.verify()) == set(opened.manifest.files)
    assert Bundle(copy).read("prompts.npz") == b"another"


def test_what_is_changed_in_place_is_not_what_was_hashed(copy: Path) -> None:
    opened = Bundle(copy)
    data = (copy / "prompts.npz").read_bytes()
    (copy / "prompts.npz").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ChecksumError, match=r"prompts\.npz: changed since it was exported"):
        opened.read("prompts.npz")
    (copy / "prompts.npz").write_bytes(b"")
    with pytest.raises(ChecksumError, match=r"prompts\.npz"):
        opened.read("prompts.npz")


@pytest.mark.parametrize("moment", ["manifest.json", "selftest.npz"])
def test_a_bundle_replaced_while_it_is_opened_is_one_or_the_other(
    copy: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    other = with_file(bundle, tmp_path / "other", "prompts.npz", b"another")
    hold = HeldFolder.hold
    left = [other]

    def replace_and_hold(self: HeldFolder, name: str) -> int | None:
        if name == moment and left:
            shutil.rmtree(copy)
            left.pop().rename(copy)
        return hold(self, name)

    monkeypatch.setattr(HeldFolder, "hold", replace_and_hold)
    opened = Bundle(copy)
    assert not left
    assert opened.read("prompts.npz") == b"another"
    assert opened.manifest.files["prompts.npz"].size == len(b"another")


def test_a_bundle_replaced_for_ever_is_an_error(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanish(*_: object) -> int | None:
        copy.rename(tmp_path / "old")
        shutil.copytree(tmp_path / "old", copy)
        shutil.rmtree(tmp_path / "old")
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(HeldFolder, "hold", vanish)
    with pytest.raises(BundleError, match="replaced 20 times while it was opened; wait until the exports have ended"):
        Bundle(copy)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_no_descriptor_is_left_open(copy: Path) -> None:
    before = descriptors()
    opened = Bundle(copy)
    assert descriptors() == before + len(opened.manifest.files) + 2  # the folder and the manifest
    opened.close()
    opened.close()
    assert descriptors() == before
    with pytest.raises(BundleError, match=r"prompts\.npz: not open, or closed again"):
        opened.read("prompts.npz")
    with pytest.raises(BundleError, match="not open, or closed again"):
        list(opened.verify())
    with Bundle(copy) as again:
        assert again.read("prompts.npz")
    assert descriptors() == before
    for _ in range(3):
        Bundle(copy)
    assert descriptors() == before
    (copy / "surplus").touch()
    for _ in range(3):
        with pytest.raises(BundleError):
            Bundle(copy)
    assert descriptors() == before


def test_the_expected_hash_pins_all_of_a_bundle(copy: Path, bundle: Path, tmp_path: Path) -> None:
    pin = hashlib.sha256((copy / "manifest.json").read_bytes()).hexdigest()
    for spelling in (pin, pin.upper()):
        opened = Bundle(copy, expect_sha256=spelling)
        assert opened.manifest_sha256 == opened.manifest.sha256 == pin
    other = with_file(bundle, tmp_path / "other", "prompts.npz", b"another")
    found = Bundle(other).manifest_sha256
    with pytest.raises(ChecksumError, match=f"other: sha256 {found}, expected {pin}"):
        Bundle(other, expect_sha256=pin)
    (copy / "manifest.json").write_text("rubbish")
    with pytest.raises(ChecksumError, match=f"expected {pin}"):
        Bundle(copy, expect_sha256=pin)


def test_a_newer_format_is_refused_with_the_remedy(copy: Path) -> None:
    manifest = copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"format_version": {FORMAT_VERSION}', '"format_version": 99'))
    with pytest.raises(BundleVersionError, match=r"format_version 99.*update stale-edge"):
        Bundle(copy)


def test_no_bundle_says_where_was_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match=r"\./stale_bundle"):
        find_bundle()
    for nowhere in ("nowhere", "nowhere" * 1000):
        with pytest.raises(BundleError, match="nowhere"):
            find_bundle(Path(nowhere))
    (tmp_path / "best.pth").touch()
    with pytest.raises(BundleError, match=r"best\.pth; that is a file, and a bundle is the folder that"):
        find_bundle("best.pth")
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
