"""``stale-train`` as a user types it: what it leaves behind, and what it says of bad input."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stale_model.training.training_files import BEST, CURVES, LAST, METRICS
from tests import tiny
from tests.cli import same_process
from tests.cli.command import run
from tests.cli.training import EPOCHS, fails, metrics, run_here


def test_training_export_and_detection_need_nothing_but_the_checkpoint(unbroken: Path, tmp_path: Path) -> None:
    assert {path.name for path in unbroken.iterdir()} == {BEST, LAST, METRICS, CURVES, "summary.csv"}
    content = torch.load(unbroken / BEST, weights_only=True)
    assert content["classes"] == sorted(tiny.CLASSES)
    rows = metrics(unbroken)
    assert [row["epoch"] for row in rows] == [str(n + 1) for n in range(EPOCHS)]
    assert float(rows[-1]["total"]) < float(rows[0]["total"])
    done = same_process.run("stale-export", "--ckpt", unbroken / BEST, "-o", "bundle", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    np.save(tmp_path / "video.npy", np.random.default_rng(0).standard_normal((30, tiny.CHANNELS)))
    (tmp_path / "classes.txt").write_text("\n".join(tiny.CLASSES))
    detected = run("stale-run", "video.npy", "--prompts", "classes.txt", "--bundle", "bundle", cwd=tmp_path)
    assert detected.returncode == 0, detected.stderr


def test_unseen_classes_are_evaluated_and_never_trained_on(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "seen.txt").write_text("long jump\npolo\n")
    (tmp_path / "unseen.txt").write_text("archery\n")
    where = options.index("--split")
    options[where : where + 2] = ["--seen", "seen.txt", "--unseen", "unseen.txt"]
    done = run_here(*options, "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "training: 7 of 10 videos; left out: 3 with labels outside the list" in done.stderr
    assert "once at the end: 1 of 3 videos" in done.stderr
    content = torch.load(tmp_path / "out" / BEST, weights_only=True)
    assert content["classes"] == ["long jump", "polo"]
    assert not {"1", "4", "7"} & set(content["training"]["videos"])
    (row,) = csv.DictReader((tmp_path / "out" / "summary.csv").read_text().splitlines())
    assert 0 <= float(row["unseen_map"]) <= 1
    assert row["videos"] == "7"


@pytest.fixture
def without_subsets(options: list[str], training_data: Path, tmp_path: Path) -> list[str]:
    """Options for the same videos, annotated in the original code's format, with ``info.csv`` beside it."""
    database = json.loads((training_data / "annotations.json").read_text())["database"]
    original = {
        f"v_{video}": {"duration_second": known["duration"], "annotations": known["annotations"]}
        for video, known in database.items()
    }
    (tmp_path / "original.json").write_text(json.dumps(original))
    rows = [f"v_{video},1800,{known['duration']},30.0,30.0,{known['subset']},1792" for video, known in database.items()]
    (tmp_path / "info.csv").write_text("\n".join(["video,numFrame,seconds,fps,rfps,subset,featureFrame", *rows]))
    return [*options, "--annotations", str(tmp_path / "original.json")]


def test_no_validation_video_is_trained_on_by_mistake(
    options: list[str], without_subsets: list[str], unbroken: Path, tmp_path: Path
) -> None:
    fails([*without_subsets, "-o", "out"], tmp_path, code=3, says="give --video-info FILE, such as the original code's")
    assert not (tmp_path / "out").exists()
    done = run_here(*without_subsets, "--video-info", "info.csv", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "info.csv: subsets of 13 of 13 videos" in done.stderr
    assert metrics(tmp_path / "out") == metrics(unbroken)
    both = [*without_subsets, "--video-info", "info.csv", "--all-training", "-o", "new"]
    fails(both, tmp_path, code=2, says="--all-training with --video-info")
    all_of_it = [*options, "--all-training", "-o", "new"]
    fails(all_of_it, tmp_path, code=3, says="has the subset of each video itself; leave out --all-training")


def test_training_on_all_videos_is_said_everywhere(without_subsets: list[str], unbroken: Path, tmp_path: Path) -> None:
    every = [*without_subsets, "--all-training", "--epochs", "2", "-o", "out"]
    done = run_here(*every, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "every video of" in done.stderr
    assert "best.pth is the last epoch" in done.stderr
    assert "out/best.pth is epoch 2" in done.stderr
    assert done.stdout.splitlines()[-1].split()[1:5] == ["13", "all", "videos", "2"]
    (row,) = csv.DictReader((tmp_path / "out" / "summary.csv").read_text().splitlines())
    assert (row["videos"], row["trained_on"], row["seen_map"]) == ("13", "all videos", "")
    saved = torch.load(tmp_path / "out" / BEST, weights_only=True)["training"]
    assert (saved["all_training"], saved["epochs_done"], len(saved["videos"])) == (True, 2, 13)
    assert torch.load(unbroken / BEST, weights_only=True)["training"]["all_training"] is None
    resumed = [*without_subsets, "--video-info", "info.csv", "--epochs", "2", "-o", "out", "--resume"]
    fails(resumed, tmp_path, code=3, says="started with all training True, now None")


def test_a_list_of_ids_is_the_sample(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("# a sample\nv_1\n2\n12\n")
    listed = [*options, "--train-ids", "ids.txt", "--epochs", "1", "-o", "out"]
    done = run_here(*listed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--train-ids ids.txt: 2 of 3 ids are videos of subset 'training'" in done.stderr
    assert "--train-ids ids.txt: not among them: 12\n" in done.stderr
    saved = torch.load(tmp_path / "out" / BEST, weights_only=True)["training"]
    assert saved["videos"] == ["1", "2"]
    assert saved["train_ids"] == 3
    (row,) = csv.DictReader((tmp_path / "out" / "summary.csv").read_text().splitlines())
    assert row["trained_on"] == f"training, 2 of 3 ids {saved['train_ids_sha256'][:8]}"
    fails([*listed, "--fraction", "0.5"], tmp_path, code=2, says="--train-ids with --fraction 0.5: the list is the")
    (tmp_path / "same.json").write_text(json.dumps({"v_12": {}, "v_2": {}, "v_1": {}}))
    again = run_here(*listed, "--train-ids", "same.json", "--resume", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    (tmp_path / "ids.txt").write_text("1\n2\n11\n")
    fails([*listed, "--resume"], tmp_path, code=3, says="started with train ids sha256 ")
    (tmp_path / "ids.txt").write_text("11\nx\n")
    fails([*listed, "-o", "new"], tmp_path, code=3, says="2 ids, none of subset 'training', such as 11, x; give ids")


@pytest.mark.parametrize(
    ("seen", "weights"),
    [
        ("long jump\npolo\n", "2 seen, 1 unseen classes; weights of the loss: classification 0.4, masks 0.3, "),
        ("polo\n", "1 seen, 1 unseen classes; weights of the loss: classification 0.1, masks 1, "),
    ],
)
def test_the_share_of_unseen_classes_decides_the_weights_of_the_loss(
    options: list[str], tmp_path: Path, seen: str, weights: str
) -> None:
    (tmp_path / "seen.txt").write_text(seen)
    (tmp_path / "unseen.txt").write_text("archery\n")
    where = options.index("--split")
    options[where : where + 2] = ["--seen", "seen.txt", "--unseen", "unseen.txt"]
    done = run_here(*options, "--epochs", "1", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert weights in done.stderr
    written = torch.load(tmp_path / "out" / BEST, weights_only=True)["training"]["config"]["weights"]
    assert f"classification {written['classification']:g}, masks {written['masks']:g}, " in weights


def test_several_seeds_end_with_mean_and_deviation(options: list[str], tmp_path: Path) -> None:
    study = [*options, "--fraction", "0.5", "--seeds", "3", "--epochs", "1", "-o", "study"]
    done = run_here(*study, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folders = [tmp_path / "study" / f"seed_{n}" for n in range(3)]
    videos = [tuple(torch.load(folder / BEST, weights_only=True)["training"]["videos"]) for folder in folders]
    assert all(len(ids) == 5 for ids in videos)
    assert len(set(videos)) == 3
    rows = list(csv.DictReader((tmp_path / "study" / "summary.csv").read_text().splitlines()))
    assert [row["seed"] for row in rows] == ["0", "1", "2"]
    seen = [100 * float(row["seen_map"]) for row in rows]
    assert f"{np.mean(seen):.1f} ± {np.std(seen, ddof=1):.1f}" in done.stdout.splitlines()[-1]
    again = run_here(*study, "--resume", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert [row["seen_map"] for row in rows] == [
        row["seen_map"] for row in csv.DictReader((tmp_path / "study" / "summary.csv").read_text().splitlines())
    ]


@pytest.mark.parametrize("option", ["--fraction", "--learning-rate", "--weight-decay"])
@pytest.mark.parametrize("value", ["nan", "inf", "2"])
def test_no_number_is_no_option(options: list[str], tmp_path: Path, option: str, value: str) -> None:
    fails([*options, option, value, "-o", "out"], tmp_path, code=2, says="is not in the range")
    assert not (tmp_path / "out").exists()


def test_bad_data_is_named(options: list[str], tmp_path: Path) -> None:
    def instead(option: str, value: str | Path) -> list[str | Path]:
        return [*options, option, value, "-o", "out"]

    (tmp_path / "empty").mkdir()
    fails(instead("--features", "empty"), tmp_path, code=3, says="empty: no .npy files in this folder")
    (tmp_path / "foreign").mkdir()
    np.save(tmp_path / "foreign" / "v_x.npy", np.ones((5, tiny.CHANNELS), np.float32))
    fails(instead("--features", "foreign"), tmp_path, code=3, says="expected files such as v_0.npy")
    fails(instead("--features", "absent"), tmp_path, code=3, says="No such file")
    (tmp_path / "broken.json").write_text('{"database": {"a": ')
    fails(instead("--annotations", "broken.json"), tmp_path, code=3, says="not valid JSON")
    (tmp_path / "other.json").write_text(json.dumps({"results": {"a": []}}))
    fails(instead("--annotations", "other.json"), tmp_path, code=3, says="no 'database' and no 'duration_second'")
    fails(instead("--annotations", "absent.json"), tmp_path, code=3, says="No such file")
    fails(instead("--split", "80-20:1"), tmp_path, code=3, says="expected 'closed', '75-25:N'")
    fails(instead("--clip", "empty"), tmp_path, code=3, says="no CLIP configuration")
    fails(instead("--train-subset", "Test"), tmp_path, code=3, says="found training, validation")
    fails(instead("--precision", "16"), tmp_path, code=2, says="only a GPU")
    (tmp_path / "wide").mkdir()
    for n in range(13):
        np.save(tmp_path / "wide" / f"v_{n}.npy", np.ones((5, tiny.CHANNELS + 1), np.float32))
    fails(instead("--features", "wide"), tmp_path, code=3, says=f"expected (snippets, {tiny.CHANNELS})")


def test_a_class_that_only_a_published_list_has_is_warned_of(options: list[str], tmp_path: Path) -> None:
    for part, names in (("train", "long jump\npool\n"), ("test", "archery\n")):
        (tmp_path / "train_75_test_25" / part).mkdir(parents=True)
        (tmp_path / "train_75_test_25" / part / "split_0.list").write_text(names)
    listed = [*options, "--split", "75-25:0", "--split-lists", ".", "--epochs", "1", "-o", "out"]
    done = run_here(*listed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "warning: split 75-25:0: no annotation is of 1 of its classes: 'pool'; they stay prompts" in done.stderr
    assert torch.load(tmp_path / "out" / BEST, weights_only=True)["classes"] == ["long jump", "pool"]
    (tmp_path / "train_75_test_25" / "test" / "split_0.list").write_text("archer\n")
    says = "split_0.list: none of its 1 classes, such as 'archer', is one of the 3 annotated classes; did you mean"
    fails([*listed, "-o", "new"], tmp_path, code=3, says=says)
    (tmp_path / "seen.txt").write_text("pool\n")
    where = options.index("--split")
    given = [*options[:where], *options[where + 2 :], "--seen", "seen.txt", "--unseen", "seen.txt", "-o", "new"]
    fails(given, tmp_path, code=3, says="class 'pool', not one of the 3 annotated classes; did you mean 'polo'?")


def test_feature_files_with_nan_are_left_out_and_counted(
    options: list[str], training_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "features").mkdir()
    for path in (training_data / "features").iterdir():
        (tmp_path / "features" / path.name).write_bytes(path.read_bytes())
    for video in ("4", "11"):
        np.save(tmp_path / "features" / f"v_{video}.npy", np.full((5, tiny.CHANNELS), np.nan, np.float32))
    damaged = [*options, "--features", "features", "--epochs", "1", "-o", "out"]
    done = run_here(*damaged, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "training: 9 of 10 videos; left out: 1 with unusable features" in done.stderr
    assert "left out: features/v_4.npy: NaN or infinity" in done.stderr
    assert "validation: 2 of 3 videos; left out: 1 with unusable features" in done.stderr
    assert "left out: features/v_11.npy: NaN or infinity" in done.stderr
    assert "4" not in torch.load(tmp_path / "out" / BEST, weights_only=True)["training"]["videos"]


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_feature_file_that_breaks_during_training_is_named_on_one_line(
    options: list[str], training_data: Path, tmp_path: Path, workers: str
) -> None:
    """In a child process: PyTorch's processes that read features leave signal handlers behind in their parent."""
    (tmp_path / "features").mkdir()
    for path in (training_data / "features").iterdir():
        (tmp_path / "features" / path.name).write_bytes(path.read_bytes())

    code = (
        "import numpy as np\n"
        "from stale_model import train_command\n"
        "from stale_model.training.training_report import Reporter\n"
        f"broken = np.full((5, {tiny.CHANNELS}), np.nan, np.float32)\n"
        "Reporter.show_start = lambda *_: np.save('features/v_4.npy', broken)\n"
        "train_command.main()\n"
    )
    breaking = [*options, "--features", "features", "--workers", workers, "-o", "out"]
    command = [sys.executable, "-c", code, *map(str, breaking)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 3, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("stale-train: error: features/v_4.npy: NaN or infinity")
    assert "Traceback" not in done.stderr


def test_starting_from_a_checkpoint_takes_its_tower(options: list[str], unbroken: Path, tmp_path: Path) -> None:
    started = [*options, "--text-from", str(unbroken / BEST), "--clip", "absent", "--freeze-text", "-o", "out"]
    done = run_here(*started, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    before, after = (torch.load(folder / BEST, weights_only=True) for folder in (unbroken, tmp_path / "out"))
    tower = [name for name in before["state_dict"] if name.startswith("tower.")]
    assert tower
    assert all(torch.equal(before["state_dict"][name], after["state_dict"][name]) for name in tower)


def test_a_tower_that_saw_the_unseen_classes_is_said(options: list[str], unbroken: Path, tmp_path: Path) -> None:
    (tmp_path / "seen.txt").write_text("long jump\npolo\n")
    (tmp_path / "unseen.txt").write_text("archery\n")
    where = options.index("--split")
    options[where : where + 2] = ["--seen", "seen.txt", "--unseen", "unseen.txt"]
    leaking = [*options, "--text-from", str(unbroken / BEST), "--epochs", "1", "-o", "out"]
    done = run_here(*leaking, cwd=tmp_path)
    assert "was trained on 1 of the unseen classes" in done.stderr


def test_cached_features_give_the_same_training_to_the_bit(options: list[str], unbroken: Path, tmp_path: Path) -> None:
    for name, workers, says in (("first", "0", ": 13 videos, 0 MB"), ("second", "2", "")):
        more = ["--cache-features", "cache", "--workers", workers, "-o", name]
        done = run_here(*options, *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert says in done.stderr
        assert ("--cache-features" in done.stderr) == bool(says)
        assert metrics(tmp_path / name) == metrics(unbroken)
        saved, expected = (torch.load(place / LAST, weights_only=True) for place in (tmp_path / name, unbroken))
        assert all(torch.equal(saved["state_dict"][key], value) for key, value in expected["state_dict"].items())
        assert saved["training"]["videos"] == expected["training"]["videos"]
    resumed = run_here(*options, "--cache-features", "cache", "-o", "second", "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
