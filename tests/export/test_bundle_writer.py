import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from stale_export import bundle_writer
from stale_export.bundle_writer import can_be_bundle, write_bundle
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.manifest import FORMAT_VERSION, FileRecord, Manifest, Source, TextEncoderSpec
from stale_runtime.system.workspace import write_durably

CONTENTS = {"one.onnx": b"1", "two.npz": b"22", "three.json": b"", "four.npz": bytes(1000)}
MANIFEST = Manifest(
    format_version=FORMAT_VERSION,
    versions={},
    source=Source(format="original", sha256="0" * 64, size=1),
    channels=16,
    heads=2,
    temporal_scale=16,
    decoder="standard",
    text_encoder=TextEncoderSpec(clip="clip", context_length=77, pad_token=54, prefix=(53,), prompt_template="{}"),
    graphs={},
    parity=(),
    quantization=(),
    files={},
)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def raises(error: BaseException, *, at: int) -> Callable[..., None]:
    """A stand-in for the function that writes a file, which fails at one of them."""
    write, calls = write_durably, []

    def write_or_raise(path: Path, content: bytes) -> None:
        calls.append(path)
        if len(calls) == at:
            raise error
        write(path, content)

    return write_or_raise


@pytest.fixture
def old(tmp_path: Path) -> dict[str, bytes]:
    """What ``tmp_path / "bundle"`` holds before it is written again."""
    write_bundle(tmp_path / "bundle", MANIFEST, {"old.onnx": b"old"})
    return snapshot(tmp_path / "bundle")


def test_what_is_written_is_a_bundle(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path / "bundle", MANIFEST, CONTENTS)
    assert snapshot(tmp_path / "bundle") == {**CONTENTS, "manifest.json": manifest.to_bytes()}
    assert manifest.files == {
        name: FileRecord(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        for name, content in CONTENTS.items()
    }
    bundle = Bundle(tmp_path / "bundle")
    assert bundle.manifest == manifest
    assert list(bundle.verify()) == list(CONTENTS)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_others_may_read_it_as_they_may_any_folder(tmp_path: Path) -> None:
    (tmp_path / "any").mkdir()
    write_bundle(tmp_path / "bundle", MANIFEST, CONTENTS)
    assert stat.S_IMODE((tmp_path / "bundle").stat().st_mode) == stat.S_IMODE((tmp_path / "any").stat().st_mode)


def test_a_relative_path_means_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_bundle(Path("bundle"), MANIFEST, CONTENTS)
    assert Bundle(tmp_path / "bundle").read("two.npz") == b"22"


def test_a_bundle_is_replaced_with_all_its_files(tmp_path: Path, old: dict[str, bytes]) -> None:
    write_bundle(tmp_path / "bundle", MANIFEST, CONTENTS)
    assert snapshot(tmp_path / "bundle").keys() == {*CONTENTS, "manifest.json"}
    assert "old.onnx" in old
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    write_bundle(tmp_path / "bundle", MANIFEST, CONTENTS)
    assert Bundle(tmp_path / "bundle").read("one.onnx") == b"1"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["full disk", "interrupt"])
@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_failure_midway_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, at: int
) -> None:
    monkeypatch.setattr(bundle_writer, "write_durably", raises(error, at=at))
    with pytest.raises(type(error)):
        write_bundle(tmp_path / "bundle", MANIFEST, CONTENTS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["full disk", "interrupt"])
@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_failure_midway_leaves_the_old_bundle(
    tmp_path: Path, old: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, error: BaseException, at: int
) -> None:
    monkeypatch.setattr(bundle_writer, "write_durably", raises(error, at=at))
    with pytest.raises(type(error)):
        write_bundle(tmp_path / "bundle", MANIFEST, CONTENTS)
    assert snapshot(tmp_path / "bundle") == old
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("error", [OSError("busy"), KeyboardInterrupt()], ids=["busy", "interrupt"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_failing_rename_leaves_the_old_bundle(
    tmp_path: Path, old: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, error: BaseException, at: int
) -> None:
    rename, calls = Path.rename, []

    def rename_or_raise(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == at:
            raise error
        return rename(path, target)

    monkeypatch.setattr(bundle_writer, "exchange", lambda *_: False)
    monkeypatch.setattr(Path, "rename", rename_or_raise)
    with pytest.raises(type(error)):
        write_bundle(tmp_path / "bundle", MANIFEST, CONTENTS)
    assert snapshot(tmp_path / "bundle") == old
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.usefixtures("old")
def test_where_folders_cannot_be_exchanged_it_is_replaced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_writer, "exchange", lambda *_: False)
    write_bundle(tmp_path / "bundle", MANIFEST, CONTENTS)
    assert snapshot(tmp_path / "bundle").keys() == {*CONTENTS, "manifest.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_who_has_the_old_bundle_open_reads_on(tmp_path: Path, old: dict[str, bytes]) -> None:
    with open(tmp_path / "bundle" / "old.onnx", "rb") as file:
        folder = os.open(tmp_path / "bundle", os.O_RDONLY)
        write_bundle(tmp_path / "bundle", MANIFEST, CONTENTS)
        assert file.read() == old["old.onnx"]
        assert os.fstat(folder).st_ino != (tmp_path / "bundle").stat().st_ino
        os.close(folder)


@pytest.mark.usefixtures("old")
def test_a_link_to_a_bundle_stays_one(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("bundle")
    write_bundle(tmp_path / "current", MANIFEST, CONTENTS)
    assert os.readlink(tmp_path / "current") == "bundle"
    assert Bundle(tmp_path / "bundle").read("one.onnx") == b"1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "current"]


@pytest.mark.parametrize("name", ["跳" * 85, "🤸" * 63])
def test_every_name_that_the_file_system_takes_can_be_written(tmp_path: Path, name: str) -> None:
    write_bundle(tmp_path / name, MANIFEST, CONTENTS)
    assert Bundle(tmp_path / name).read("one.onnx") == b"1"


def test_a_missing_parent_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_bundle(tmp_path / "no" / "bundle", MANIFEST, CONTENTS)
    assert list(tmp_path.iterdir()) == []


def test_nothing_may_be_there(tmp_path: Path) -> None:
    assert can_be_bundle(tmp_path / "bundle")


def test_an_empty_folder_may_be_there(tmp_path: Path) -> None:
    assert can_be_bundle(tmp_path)


def test_a_bundle_may_be_there(tmp_path: Path, old: dict[str, bytes]) -> None:
    assert old
    assert can_be_bundle(tmp_path / "bundle")


def test_a_signature_is_of_the_manifest_and_goes_with_it(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path / "bundle", MANIFEST, CONTENTS, sign=lambda manifest: manifest.sha256.encode())
    assert snapshot(tmp_path / "bundle")["model.sig"] == Bundle(tmp_path / "bundle").manifest_sha256.encode()
    assert manifest.files.keys() == CONTENTS.keys()
    assert can_be_bundle(tmp_path / "bundle")
    write_bundle(tmp_path / "bundle", MANIFEST, CONTENTS)
    assert "model.sig" not in snapshot(tmp_path / "bundle")


@pytest.mark.usefixtures("old")
def test_a_broken_bundle_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "bundle" / "old.onnx").unlink()
    assert can_be_bundle(tmp_path / "bundle")


def test_a_file_may_not_be_there(tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(b"mine")
    assert not can_be_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("name", ["thesis.tex", "manifest.txt", ".hidden"])
def test_a_folder_with_other_things_may_not_be_there(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"mine")
    assert not can_be_bundle(tmp_path)


@pytest.mark.parametrize("content", ['{"manifest_version": 3, "name": "my browser extension"}', "", "[]", "\0"])
def test_a_folder_with_somebody_elses_manifest_may_not_be_there(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    (tmp_path / "background.js").write_text("a week's work")
    assert not can_be_bundle(tmp_path)


@pytest.mark.usefixtures("old")
def test_a_bundle_that_somebody_keeps_other_things_in_may_not_be_there(tmp_path: Path) -> None:
    (tmp_path / "bundle" / "notes").mkdir()
    (tmp_path / "bundle" / "notes" / "results.csv").write_text("a week's work")
    assert not can_be_bundle(tmp_path / "bundle")


def test_a_dangling_link_may_not_be_there(tmp_path: Path) -> None:
    (tmp_path / "bundle").symlink_to(tmp_path / "nowhere")
    assert not can_be_bundle(tmp_path / "bundle")
