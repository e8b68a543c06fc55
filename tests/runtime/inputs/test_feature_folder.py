"""What a folder of features contains besides them is told of."""

from pathlib import Path

import pytest

from stale_runtime.errors import FeatureError
from stale_runtime.inputs.feature_folder import feature_files, video_files


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()


def test_other_files_and_folders_are_counted(tmp_path: Path) -> None:
    fill(tmp_path, "a.npy", "a.recipe.json", ".hidden", "b.NPY", "c.npz")
    said: list[str] = []
    assert list(feature_files(tmp_path, say=said.append)) == ["a", "b", "c"]
    assert said == []
    fill(tmp_path, "b.pt", "c.pt", "notes.txt", "README", "more/", "v.mp4")
    feature_files(tmp_path, option="--features", say=said.append)
    assert said == [
        f"--features {tmp_path}: 5 other files (2 .pt, 1 without an ending, 1 .txt, …) and 1 folder ignored"
    ]
    said.clear()
    assert len(video_files(tmp_path, features=False, say=said.append)) == 1
    assert said == [f"{tmp_path}: 7 other files (2 .npy, 2 .pt, 1 without an ending, …) and 1 folder ignored"]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("a.pt", "b.pt"), "no .npy files in this folder, but 2 other files (2 .pt); a file of torch.save, expected"),
        (("a.h5",), "but 1 other file (1 .h5); an HDF5 file"),
        (("train/", "val/"), "but 2 folders; give {}/train or another folder inside"),
        (("a.mp4",), "but 1 other file (1 .mp4); give the folder that contains them"),
        ((), "no .npy files in this folder; give the folder that contains them"),
    ],
)
def test_a_folder_without_features_says_what_is_there_instead(
    tmp_path: Path, names: tuple[str, ...], says: str
) -> None:
    fill(tmp_path, *names)
    with pytest.raises(FeatureError) as caught:
        feature_files(tmp_path)
    assert says.format(tmp_path) in str(caught.value)
