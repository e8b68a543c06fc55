"""``stale-train`` as a user types it: what it leaves behind, and what it says of bad input."""

import contextlib
import csv
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch

from stale_model.training.epoch_metrics import Epoch
from stale_model.training.output_folder import lock_folder
from stale_model.training.training_files import BEST, CURVES, LAST, METRICS
from stale_model.training.training_report import Reporter
from tests import tiny
from tests.cli import same_process
from tests.cli.command import interruptible, run
from tests.cli.same_process import Done

COMMAND = str(Path(sys.executable).parent / "stale-train")
NOT_REPRODUCED = ("seconds", "peak_memory_mb")
EPOCHS = 6


def tiny_training(training_data: Path, clip_folder: Path) -> list[str]:
    """Options enough to train the tiny network, but for where to."""
    return [
        *("--annotations", str(training_data / "annotations.json"), "--features", str(training_data / "features")),
        *("--split", "closed", "--clip", str(clip_folder), "--length", str(tiny.LENGTH), "--batch-size", "4"),
        *("--epochs", str(EPOCHS), "--device", "cpu", "--threads", "1"),
    ]


@pytest.fixture
def options(training_data: Path, clip_folder: Path) -> list[str]:
    return tiny_training(training_data, clip_folder)


def run_here(*options: str | Path, cwd: Path) -> Done:
    """Run ``stale-train`` in this process, which has PyTorch loaded already."""
    return same_process.run("stale-train", *options, cwd=cwd)


@pytest.fixture(scope="module")
def unbroken(training_data: Path, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that nobody disturbed."""
    folder = tmp_path_factory.mktemp("unbroken")
    done = run_here(*tiny_training(training_data, clip_folder), "-o", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "out"


def metrics(folder: Path) -> list[dict[str, str]]:
    """Rows of the metrics, without what no two runs have in common."""
    rows = list(csv.DictReader((folder / METRICS).read_text().splitlines()))
    return [{name: value for name, value in row.items() if name not in NOT_REPRODUCED} for row in rows]


def fails(options: Sequence[str | Path], cwd: Path, *, code: int, says: str) -> None:
    done = run_here(*options, cwd=cwd)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == code, (done.returncode, done.stderr)
    assert last.startswith("stale-train: error: "), done.stderr
    assert says in last, done.stderr
    assert done.stdout == ""


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


def test_killed_at_any_moment_it_goes_on_to_the_same_end(options: list[str], unbroken: Path, tmp_path: Path) -> None:
    """At many more moments in ``tests/crash/random_kills.py``."""
    for lines in (1, 4):  # after the first epoch, and after one more than was done before
        resume = ["--resume"] if (tmp_path / "out" / LAST).exists() else []
        process = subprocess.Popen(
            [COMMAND, *options, "-o", "out", *resume], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.kill()
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL, stderr
        torch.load(tmp_path / "out" / BEST, weights_only=True)
        torch.load(tmp_path / "out" / LAST, weights_only=True)
        assert 0 < len(metrics(tmp_path / "out")) < EPOCHS
    done = run_here(*options, "-o", "out", "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert metrics(tmp_path / "out") == metrics(unbroken)
    assert not list((tmp_path / "out").glob(".*"))


@pytest.fixture(scope="module")
def disturbed(training_data: Path, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> "Disturbed":
    """A training beside which others are started in its folder, and which is then interrupted."""
    folder = tmp_path_factory.mktemp("disturbed")
    options = [*tiny_training(training_data, clip_folder), "-o", "out"]
    with subprocess.Popen(
        [COMMAND, *options, "--epochs", "1000"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=interruptible,
    ) as process:
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        others = [run_here(*options, *more, cwd=folder) for more in ([], ["--resume"], ["--seeds", "2"])]
        was_running = process.poll() is None
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    return Disturbed(folder, Done(process.returncode, stdout, stderr), others, was_running)


@dataclass(frozen=True)
class Disturbed:
    """A training, and others that were started in its folder meanwhile."""

    folder: Path
    first: Done
    others: Sequence[Done]
    was_running: bool
    """Whether the first one was still running after the others."""


def test_interrupted_it_leaves_the_last_epoch_and_says_so(disturbed: Disturbed) -> None:
    assert disturbed.first.returncode == 130
    assert disturbed.first.stderr.strip().splitlines()[-1] == (
        "stale-train: error: interrupted; the last complete epoch is kept in -o out; repeat the command with --resume "
        "to go on from there"
    )
    assert "Traceback" not in disturbed.first.stderr
    assert len(metrics(disturbed.folder / "out")) >= 1
    assert not list((disturbed.folder / "out").glob(".*"))


def test_two_trainings_do_not_share_a_folder(disturbed: Disturbed, options: list[str]) -> None:
    says = "-o out: another stale-train is using it; wait until that ends, or give another folder"
    for other in disturbed.others:
        assert other.returncode == 2
        assert other.stderr.splitlines() == ["stale-train: loading PyTorch", f"stale-train: error: {says}"]
    assert disturbed.was_running
    assert not (disturbed.folder / "out" / "seed_0").exists()
    fails([*options, "-o", "out"], disturbed.folder, code=2, says="contains a training already")


def test_a_folder_is_taken_before_anything_is_looked_for_in_it(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LAST).write_bytes(b"")
    with lock_folder(tmp_path / "out"):
        fails([*options, "-o", "out"], tmp_path, code=2, says="another stale-train is using it")


@contextlib.contextmanager
def interrupted_after(epochs: int) -> Iterator[None]:
    """Let trainings in this process be interrupted when so many epochs are saved."""
    show = Reporter.show_epoch

    def show_and_interrupt(self: Reporter, epoch: Epoch) -> None:
        show(self, epoch)
        if epoch.epoch == epochs:
            raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reporter, "show_epoch", show_and_interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, handler)


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let this process write no file beyond a size, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_costs_nothing_that_was_there(options: list[str], unbroken: Path, tmp_path: Path) -> None:
    with interrupted_after(2):
        assert run_here(*options, "-o", "out", cwd=tmp_path).returncode == 130
    before = metrics(tmp_path / "out")
    assert len(before) == 2
    with largest_file(30_000):
        full = run_here(*options, "-o", "out", "--resume", cwd=tmp_path)
    assert full.returncode == 2, full.stderr
    assert "File too large; raise the limit on file sizes" in full.stderr.strip().splitlines()[-1]
    assert metrics(tmp_path / "out") == before
    torch.load(tmp_path / "out" / LAST, weights_only=True)
    done = run_here(*options, "-o", "out", "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert metrics(tmp_path / "out") == metrics(unbroken)


def test_a_reader_that_leaves_does_not_end_the_training(options: list[str], unbroken: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [COMMAND, *options, "-o", "out"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(timeout=120) == 0, said
    assert "error" not in said
    assert metrics(tmp_path / "out") == metrics(unbroken)
    assert (tmp_path / "out" / "summary.csv").exists()


def test_a_full_stdout_is_not_taken_for_a_full_folder(options: list[str], tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [COMMAND, *options, "-o", "out"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last == "stale-train: error: stdout: No space left on device; make room and run it again"
    torch.load(tmp_path / "out" / LAST, weights_only=True)


@pytest.mark.parametrize("option", ["--fraction", "--learning-rate", "--weight-decay"])
@pytest.mark.parametrize("value", ["nan", "inf", "2"])
def test_no_number_is_no_option(options: list[str], tmp_path: Path, option: str, value: str) -> None:
    fails([*options, option, value, "-o", "out"], tmp_path, code=2, says="is not in the range")
    assert not (tmp_path / "out").exists()


def test_resuming_another_training_is_refused(options: list[str], unbroken: Path, tmp_path: Path) -> None:
    out = ["-o", str(unbroken), "--resume"]
    fails(
        [*options, *out, "--epochs", "5"], tmp_path, code=3, says="6 epochs are done, more than --epochs 5; give --ep"
    )
    fails(
        [*options, *out, "--learning-rate", "0.1"], tmp_path, code=3, says="started with learning rate 0.0002, now 0.1"
    )
    fails([*options, *out, "--fraction", "0.5"], tmp_path, code=3, says="started with other videos")
    fails([*options, *out, "--freeze-text"], tmp_path, code=3, says="started with freeze text False, now True")
    fails([*options, "-o", unbroken], tmp_path, code=2, says="contains a training already; give --resume to continue")
    fails([*options, "-o", "new", "--resume"], tmp_path, code=3, says="nothing to resume")


def test_more_epochs_go_on_after_the_end(options: list[str], unbroken: Path, tmp_path: Path) -> None:
    copytree(unbroken, tmp_path / "out")
    done = run_here(*options, "-o", "out", "--resume", "--epochs", "8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    says = "--epochs 8, so far 6: after epoch 6 the learning rate goes on at 2.9e-05 instead of 0, and falls to 0 at"
    assert says in done.stderr
    rows = metrics(tmp_path / "out")
    assert rows[:EPOCHS] == metrics(unbroken)
    assert [row["epoch"] for row in rows[EPOCHS:]] == ["7", "8"]
    saved = torch.load(tmp_path / "out" / LAST, weights_only=True)
    assert saved["training"]["plan"] == [[0, 6], [6, 8]]
    again = run_here(*options, "-o", "out", "--resume", "--epochs", "8", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "so far" not in again.stderr
    saved["training"]["plan"] = [[0, "6"]]
    torch.save(saved, tmp_path / "out" / LAST)
    broken = [*options, "-o", "out", "--resume"]
    fails(
        broken, tmp_path, code=3, says="its history is damaged, or was written by another version of stale-edge (no pl"
    )


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
