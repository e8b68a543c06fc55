"""A writer that is killed before any of its file operations leaves the old state or the new one, and can run again."""

import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from stale_export import bundle_writer
from stale_model.training import training_files
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.system.workspace import sweep
from tests.crash.faults import disk_full, files, killed, killed_in_mid_write, snapshot, visible
from tests.crash.writers import WRITERS, Writer, write_new_bundle, write_old_bundle


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A writer, and folders in the state before and after it writes."""

    writer: Writer
    before: Path
    after: Path
    folder: Path

    def reset(self) -> Path:
        """Bring the folder to write in back into the state before, and return it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.before, self.folder)
        return self.folder

    def check(self) -> None:
        """Check that the folder is in an allowed state, and that the next run ends like an undisturbed one."""
        assert files(visible(self.folder)) in list(self.writer.states(snapshot(self.before), snapshot(self.after)))
        self.writer.write(self.folder)
        assert snapshot(self.folder) == snapshot(self.after)


@pytest.fixture(autouse=True)
def quick_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing the curves would take longer than everything else."""
    monkeypatch.setattr(training_files, "curves_png", lambda history: b"picture" * len(history))


@pytest.fixture(params=WRITERS, ids=lambda writer: writer.name)
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    writer: Writer = request.param
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    writer.before(before)
    shutil.copytree(before, after)
    writer.write(after)
    assert snapshot(before) != snapshot(after)
    return Scene(writer=writer, before=before, after=after, folder=tmp_path / "folder")


def test_killed_before_any_file_operation(scene: Scene) -> None:
    for n in itertools.count():
        folder = scene.reset()
        if not killed(lambda folder=folder: scene.writer.write(folder), before=n):  # type: ignore[misc]
            break
        scene.check()
    assert n >= 10
    assert snapshot(folder) == snapshot(scene.after)


def test_killed_in_the_midst_of_a_file(scene: Scene) -> None:
    sizes = {len(data) for data in snapshot(scene.after).values() if data}
    for size in sorted({0, 1, *(size // 2 for size in sizes), *(size - 1 for size in sizes)}):
        folder = scene.reset()
        assert killed_in_mid_write(lambda folder=folder: scene.writer.write(folder), at=size)  # type: ignore[misc]
        scene.check()


def test_a_disk_that_is_full_at_any_operation_leaves_no_trace(scene: Scene) -> None:
    for n in itertools.count():
        folder = scene.reset()
        if disk_full(lambda folder=folder: scene.writer.write(folder), at=n) is None:  # type: ignore[misc]
            break
        assert snapshot(folder) == visible(folder)
        scene.check()
    assert n >= 4


def test_where_folders_cannot_be_exchanged_the_old_bundle_is_at_worst_beside_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_writer, "exchange", lambda *_: False)
    write_old_bundle(tmp_path)
    old, new = snapshot(tmp_path / "bundle"), None
    moments = 0
    for n in itertools.count():
        if not killed(lambda: write_new_bundle(tmp_path), before=n):
            break
        sweep(tmp_path)
        aside = list(tmp_path.glob("old-bundle-*"))
        moments += bool(aside)
        assert all(snapshot(folder) == old for folder in aside)
        if (tmp_path / "bundle").exists():
            new = snapshot(tmp_path / "bundle")
            assert new == old or Bundle(tmp_path / "bundle").read("prompts.npz") == b"new"
        else:
            assert aside
        for folder in tmp_path.iterdir():
            shutil.rmtree(folder)
        write_old_bundle(tmp_path)
    assert moments == 2  # without a bundle, and with the new one in its place
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert snapshot(tmp_path / "bundle") == new != old
