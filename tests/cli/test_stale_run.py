import hashlib
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.signatures import Signer
from stale_runtime.inference.windows import LARGEST
from tests.cli import command
from tests.cli.same_process import fails, run
from tests.signing import make_keys
from tests.tiny import CHANNELS, CLASSES

Array = NDArray[np.float32]
INTERRUPTS = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt:
                raise ImportError("initialization failed")
sys.meta_path.insert(0, Finder())
"""
"""For Python to begin with: a module that cannot be loaded, because of Ctrl-C."""


@pytest.fixture
def work(bundle: Path, features: Array, tmp_path: Path) -> Path:
    """A folder as a user has it: bundle, features, prompts."""
    shutil.copytree(bundle, tmp_path / "stale_bundle")
    np.save(tmp_path / "v_one.npy", features)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    folder = tmp_path / "features"
    folder.mkdir()
    for name in ("v_a", "v_b", "v_c"):
        np.save(folder / f"{name}.npy", features[: 10 + 7 * ord(name[-1]) % 20])
    return tmp_path


def detect(work: Path, *arguments: str | Path) -> str:
    done = run("stale-run", *arguments, "--prompts", "classes.txt", cwd=work)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_card_s_command_prints_a_table(work: Path) -> None:
    done = command.run("stale-run", "v_one.npy", "--prompts", "classes.txt", cwd=work)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["video", "label", "start", "end", "score"]
    assert lines[2].split()[0] == "one"
    assert "fractions of the video" in lines[-2] + lines[-1]


def test_a_duration_gives_seconds_in_every_way_to_know_it(work: Path) -> None:
    (work / "d.csv").write_text("v_one,80\n")
    (work / "d.json").write_text(json.dumps({"database": {"one": {"duration": 80}}}))
    ways = (["--duration", "80"], ["--fps", "8", "--stride", "16"], ["--durations", "d.csv"], ["--durations", "d.json"])
    results = [json.loads(detect(work, "v_one.npy", "--format", "json", *way)) for way in ways]
    assert results[0]["unit"] == "seconds"
    assert all(result["results"] == results[0]["results"] for result in results)
    fractions = json.loads(detect(work, "v_one.npy", "--format", "json"))
    assert fractions["unit"] == "fraction of the video"
    in_seconds, in_fractions = results[0]["results"]["one"][0], fractions["results"]["one"][0]
    assert in_seconds["segment"] == pytest.approx([80 * t for t in in_fractions["segment"]])


def test_a_folder_gives_all_its_videos_and_a_file_holds_the_result(work: Path) -> None:
    assert detect(work, "features", "--format", "json", "-o", "out.json") == ""
    assert list(json.loads((work / "out.json").read_text())["results"]) == ["a", "b", "c"]
    assert sorted(path.name for path in work.glob(".*")) == []


def test_both_decoders_run_and_differ(work: Path) -> None:
    outputs = {
        name: detect(work, "v_one.npy", "--format", "csv", "--decoder", name) for name in ("standard", "upstream")
    }
    assert outputs["standard"] != outputs["upstream"]


def test_auto_is_twice_the_trained_length_for_a_video_of_still_more_snippets(work: Path) -> None:
    found = {
        length: detect(
            work, "v_one.npy", "--format", "csv", "--window", "off", *(["--length", length] if length else [])
        )
        for length in ("", "auto", "16", "32")
    }
    assert found["auto"] == found["32"] != found["16"] == found[""]
    np.save(work / "short.npy", np.load(work / "v_one.npy")[:10])
    short = [detect(work, "short.npy", "--format", "csv", "--length", length) for length in ("auto", "16", "32")]
    assert short[0] == short[1] != short[2]


def test_the_external_classifier_overrides_and_is_reported(work: Path) -> None:
    (work / "best.json").write_text(json.dumps({"v_one": {"class": "Chess", "score": 1e9}}))
    done = run(
        "stale-run", "v_one.npy", "--prompts", "classes.txt", "--format", "json",
        "--external-classifier", "best.json", cwd=work,
    )  # fmt: skip
    content = json.loads(done.stdout)
    assert {row["label"] for row in content["results"]["one"]} == {"Chess"}
    assert content["external_data"]["used"] is True
    assert "zero-shot" in content["external_data"]["details"]


def test_the_mode_decides_which_labels_the_external_classifier_replaces(work: Path) -> None:
    own = [row["score"] for row in json.loads(detect(work, "v_one.npy", "--format", "json"))["results"]["one"]]
    classifier = {"v_one": {"class": "Chess", "score": (own[0] + own[1]) / 2}}
    (work / "best.json").write_text(json.dumps(classifier))
    replaced = {}
    for mode in ("", "surer", "always"):
        options = ["--external-classifier", "best.json", *(["--external-mode", mode] if mode else [])]
        report = ["--report", "report.json", "--format", "json"]
        content = json.loads(detect(work, "v_one.npy", *report, *options))
        rows = content["results"]["one"]
        assert [row["score"] for row in rows] == own
        replaced[mode] = [row["label"] == "Chess" for row in rows]
        said = (json.loads((work / "report.json").read_text())["run"], content["run"])
        assert [run["external_mode"] for run in said] == [mode or "surer"] * 2
        assert ("all labels" in content["external_data"]["details"]) == (mode == "always")
        table = run("stale-run", "v_one.npy", "--prompts", "classes.txt", *options, cwd=work)
        assert ("all labels are overridden" in table.stderr) == (mode == "always")
    assert replaced[""] == replaced["surer"] == [False] + [True] * (len(own) - 1)
    assert replaced["always"] == [True] * len(own)


def test_neutral_of_the_closed_set_is_not_reported(work: Path) -> None:
    """That it is not among the detections: ``test_neutral_of_the_closed_set_is_not_detected``."""
    names = [*CLASSES, *(f"class {n}" for n in range(200 - len(CLASSES)))]
    for last in ("Neutral", "neutral"):
        (work / "classes.txt").write_text("\n".join([*names, last]))
        done = run("stale-run", "v_one.npy", "--prompts", "classes.txt", cwd=work)
        assert done.returncode == 0, done.stderr
        assert ("is not reported" in done.stderr) == (last == "Neutral")


def test_split_names_change_what_is_found_and_not_the_labels(work: Path) -> None:
    (work / "classes.txt").write_text("LongJump\nBMX\n")
    joined = run("stale-run", "v_one.npy", "--prompts", "classes.txt", "--format", "csv", cwd=work)
    assert "1 of 2 class names run words together, such as" in joined.stderr
    assert "--split-names, which prompts for 'Long jump'" in joined.stderr
    split = run("stale-run", "v_one.npy", "--prompts", "classes.txt", "--split-names", "--format", "csv", cwd=work)
    assert "capitals" not in split.stderr
    (work / "classes.txt").write_text("Long jump\nBMX\n")
    apart = run("stale-run", "v_one.npy", "--prompts", "classes.txt", "--format", "csv", cwd=work)
    assert "capitals" not in apart.stderr
    assert split.stdout == apart.stdout.replace("Long jump", "LongJump") != joined.stdout


def test_new_prompts_are_encoded_once(work: Path, private_cache: Path) -> None:
    (work / "classes.txt").write_text("snooker\nlong jump\n")
    first = detect(work, "v_one.npy")
    written = {path: path.stat().st_mtime_ns for path in private_cache.rglob("*") if path.is_file()}
    assert len(written) == 1
    assert detect(work, "v_one.npy") == first
    assert {path: path.stat().st_mtime_ns for path in private_cache.rglob("*") if path.is_file()} == written


def test_no_cache_leaves_no_trace(work: Path, private_cache: Path) -> None:
    (work / "classes.txt").write_text("snooker\n")
    detect(work, "v_one.npy", "--no-cache")
    assert list(private_cache.rglob("*")) == []


def test_self_test_passes_and_finds_a_flipped_byte_in_every_file(work: Path) -> None:
    assert run("stale-run", "--self-test", cwd=work).returncode == 0
    for path in sorted((work / "stale_bundle").iterdir()):
        data = path.read_bytes()
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :])
        done = run("stale-run", "--self-test", cwd=work)
        assert done.returncode == 4, path
        assert path.name in done.stderr.strip().splitlines()[-1]
        path.write_bytes(data)


def test_a_bundle_is_pinned_by_the_hash_that_verbose_says(work: Path) -> None:
    done = run("stale-run", "v_one.npy", "--prompts", "classes.txt", "-v", cwd=work)
    pin = hashlib.sha256((work / "stale_bundle" / "manifest.json").read_bytes()).hexdigest()
    assert f"bundle stale_bundle (sha256 {pin}), ort-" in done.stderr.replace("; ", ", ")
    assert detect(work, "v_one.npy", "--expect-sha256", pin) == done.stdout
    assert run("stale-run", "--self-test", "--expect-sha256", pin.upper(), cwd=work).returncode == 0
    other = "0" * 64
    pinned = ("v_one.npy", "--prompts", "classes.txt", "--expect-sha256")
    fails("stale-run", *pinned, other, cwd=work, code=4, says=f"stale_bundle: sha256 {pin}, expected {other}")
    fails("stale-run", "--self-test", "--expect-sha256", other, cwd=work, code=4, says=f"expected {other}")
    fails("stale-run", *pinned, pin[1:], cwd=work, code=2, says="expected 64 hexadecimal digits")


def test_only_what_the_key_signed_is_run(work: Path) -> None:
    keys, other = make_keys(work / "keys"), make_keys(work / "other")
    bundle = work / "stale_bundle"
    verified = ("v_one.npy", "--prompts", "classes.txt", "--verify")
    fails("stale-run", *verified, keys.public, cwd=work, code=4, says="model.sig: the bundle is not signed")
    expected = detect(work, "v_one.npy")
    (bundle / "model.sig").write_bytes(Signer(keys.private).sign(Bundle(bundle).manifest))
    assert detect(work, "v_one.npy", "--verify", keys.public) == expected
    assert run("stale-run", "--self-test", "--verify", keys.public, cwd=work).returncode == 0
    fails("stale-run", *verified, other.public, cwd=work, code=4, says="model.sig: not valid for")
    fails("stale-run", *verified, keys.private, cwd=work, code=3, says="key.pem: not a usable public key")
    (bundle / "localizer.torch.pth").write_bytes(bytes((bundle / "localizer.torch.pth").stat().st_size))
    fails("stale-run", *verified, keys.public, cwd=work, code=4, says="localizer.torch.pth: changed")


def test_only_what_is_loaded_is_read(work: Path) -> None:
    (work / "stale_bundle" / "text_encoder.onnx").write_bytes(
        bytes((work / "stale_bundle" / "text_encoder.onnx").stat().st_size)
    )
    detect(work, "v_one.npy")
    (work / "classes.txt").write_text("snooker\n")
    fails("stale-run", "v_one.npy", "--prompts", "classes.txt", cwd=work, code=4, says="text_encoder.onnx: changed")


def test_one_bad_file_does_not_cost_the_others(work: Path) -> None:
    (work / "features" / "v_bad.npy").write_bytes(b"nonsense")
    done = command.run("stale-run", "features", "--prompts", "classes.txt", "--format", "json", cwd=work)
    assert done.returncode == 5
    assert list(json.loads(done.stdout)["results"]) == ["a", "b", "c"]
    assert "v_bad.npy: not a .npy file" in done.stderr
    assert "1 of 4 videos failed" in done.stderr


def test_all_bad_files_are_bad_input(work: Path) -> None:
    for path in (work / "features").iterdir():
        path.write_bytes(b"")
    done = run("stale-run", "features", "--prompts", "classes.txt", "-o", "out.csv", "--format", "csv", cwd=work)
    assert done.returncode == 3
    assert "all 3 videos failed" in done.stderr
    assert not (work / "out.csv").exists()


def bad_features(kind: str, path: Path) -> None:
    good = np.zeros((5, CHANNELS), np.float32)
    arrays: dict[str, NDArray[np.generic]] = {
        "transposed": np.zeros((CHANNELS, 100), np.float32),
        "width": np.zeros((5, 7), np.float32),
        "nan": np.full((5, CHANNELS), np.nan, np.float32),
        "infinite": np.full((5, CHANNELS), np.inf, np.float16),
        "zero-length": np.zeros((0, CHANNELS), np.float32),
        "integers": np.zeros((5, CHANNELS), np.int64),
        "three axes": np.zeros((2, 5, CHANNELS), np.float32),
    }
    if kind in arrays:
        np.save(path, arrays[kind])
    elif kind == "objects":
        np.save(path, np.array([[object()]], dtype=object), allow_pickle=True)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(good))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        np.save(path, good)
        path.write_bytes(path.read_bytes()[:-10])
    elif kind == "npz":
        np.savez(path.with_suffix(".npz"), good, fps=25)
        path.with_suffix(".npz").rename(path)
    else:
        assert kind == "missing"


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("transposed", "features.T"),
        ("width", "expected (snippets, 16)"),
        ("nan", "NaN or infinity"),
        ("infinite", "NaN or infinity"),
        ("zero-length", "0 snippets"),
        ("integers", "int64"),
        ("three axes", "shape (2, 5, 16)"),
        ("objects", "pickled objects"),
        ("pickle", "a pickle, which is never loaded"),
        ("empty", "not a .npy file"),
        ("truncated", "truncated"),
        ("npz", ".npz archive of 2 arrays"),
        ("missing", "No such file"),
    ],
)
def test_bad_features_end_with_one_line(work: Path, kind: str, says: str) -> None:
    bad_features(kind, work / "bad.npy")
    arguments = ("bad.npy", "--prompts", "classes.txt", "--format", "json", "-o", "out.json")
    fails("stale-run", *arguments, cwd=work, code=3, says=says)
    assert not (work / "out.json").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no prompts"),
        (b"# only\n\n", "no prompts"),
        (b"polo\narchery\nPolo\n", "line 3: duplicate"),
        (b"a\n" + b" ".join([b"word"] * 60) + b"\n", "line 2"),
        (b"polo\n\x00\x01\n", "line 2: a binary file"),
        (b"polo\n\xff\xfe\n", "line 2: not UTF-8"),
    ],
)
def test_bad_prompts_end_with_one_line(work: Path, content: bytes, says: str) -> None:
    (work / "classes.txt").write_bytes(content)
    fails("stale-run", "v_one.npy", "--prompts", "classes.txt", cwd=work, code=3, says=says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--prompts", "classes.txt"], "no INPUT"),
        (["v_one.npy"], "no --prompts"),
        (["v_one.npy", "--prompts", "classes.txt", "--fps", "25"], "--stride"),
        (["v_one.npy", "--prompts", "classes.txt", "--fps", "25", "--stride", "16", "--duration", "3"], "exclude"),
        (["features", "--prompts", "classes.txt", "--duration", "3"], "single video"),
        (["features", "--prompts", "classes.txt", "--format", "srt"], "single video"),
        (["features", "--prompts", "classes.txt", "-o", "all.srt"], "--format srt holds a single video"),
        (["rtsp://camera/stream", "--prompts", "classes.txt"], "an address, expected a file"),
        (["v_one.npy", "--prompts", "classes.txt", "--format", "srt"], "seconds"),
        (["v_one.npy", "--prompts", "classes.txt", "-o", "no/such/folder/x"], "no folder"),
        (["v_one.npy", "--prompts", "classes.txt", "-o", "features"], "a folder"),
        (["v_one.npy", "--prompts", "classes.txt", "--backend", "tpu"], "ort-fp32"),
        (["v_one.npy", "--prompts", "classes.txt", "--length", "5000"], "4096"),
        (
            ["v_one.npy", "--prompts", "classes.txt", "--length", "long"],
            "'long', expected 16 to 4096 snippets, or auto",
        ),
        (["v_one.npy", "--prompts", "classes.txt", "--window", "0"], "'0', expected 64 to 4096 snippets, auto or off"),
        (["v_one.npy", "--prompts", "classes.txt", "--window", "x"], "'x', expected 64 to 4096 snippets, auto or off"),
        (["v_one.npy", "--prompts", "classes.txt", "--window", "5000"], "'5000', expected 64 to 4096 snippets"),
        (["v_one.npy", "--prompts", "classes.txt", "--max-detections", "0"], "0 is not in the range"),
        (["v_one.npy", "--prompts", "classes.txt", "--classes-per-video", "0"], "0 is not in the range"),
        (["v_one.npy", "--prompts", "classes.txt", "--nonsense"], "--nonsense"),
        (["v_one.npy", "--prompts", "classes.txt", "--external-mode", "always"], "give the file of labels"),
        (["v_one.npy", "--prompts", "classes.txt", "--external-mode", "never"], "'surer', 'always'"),
    ],
)
def test_wrong_usage_ends_with_one_line(work: Path, arguments: list[str], says: str) -> None:
    fails("stale-run", *arguments, cwd=work, code=2, says=says)


def test_a_missing_or_broken_bundle_is_code_4(work: Path) -> None:
    arguments = ("v_one.npy", "--prompts", "classes.txt")
    (work / "stale_bundle" / "extra").write_text("")
    fails("stale-run", *arguments, cwd=work, code=4, says="'extra' is not in the manifest")
    (work / "stale_bundle" / "extra").unlink()
    (work / "stale_bundle" / "tokenizer.json").unlink()
    fails("stale-run", *arguments, cwd=work, code=4, says="tokenizer.json is missing")
    shutil.rmtree(work / "stale_bundle")
    fails("stale-run", *arguments, cwd=work, code=4, says="make one with stale-export")
    fails("stale-run", *arguments, "--bundle", "features", cwd=work, code=4, says="has no manifest.json")


def test_a_video_without_a_duration_is_named(work: Path) -> None:
    (work / "d.csv").write_text("video,seconds\na,10\nv_b,20\n")
    done = run("stale-run", "features", "--prompts", "classes.txt", "--durations", "d.csv", "--format", "csv", cwd=work)
    assert done.returncode == 5
    assert "video c: not in the file of durations" in done.stderr


def test_a_reader_that_leaves_early_is_no_traceback(work: Path) -> None:
    line = f"{Path(sys.executable).parent / 'stale-run'} v_one.npy --prompts classes.txt | head -1"
    done = subprocess.run(line, shell=True, cwd=work, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["video", "label", "start", "end", "score"]
    assert done.stderr == ""


def test_help_teaches_without_a_bundle(tmp_path: Path) -> None:
    done = command.run("stale-run", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "stale-run video_feats.npy --prompts classes.txt" in done.stdout
    assert "Exit codes" in done.stdout


def test_a_reader_that_leaves_at_once_costs_no_report(work: Path) -> None:
    (work / "features" / "v_bad.npy").write_bytes(b"")
    line = f"{Path(sys.executable).parent / 'stale-run'} features --prompts classes.txt --report r.json | true"
    done = subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"], cwd=work, capture_output=True, text=True, check=False
    )
    assert done.returncode == 5
    assert "1 of 4 videos failed, the others are done" in done.stderr
    assert json.loads((work / "r.json").read_text())["counts"]["ok"] == 3


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_closed_streams_cost_no_result(work: Path, closed: str) -> None:
    """As a daemon has them; a file that is opened then would take their numbers, and get what others print."""
    line = f"{Path(sys.executable).parent / 'stale-run'} features --prompts classes.txt --format json"
    written = subprocess.run(f"{line} -o o.json {closed}", shell=True, cwd=work, capture_output=True, check=False)
    assert written.returncode == 0, written.stderr
    assert json.loads((work / "o.json").read_text())["results"].keys() == {"a", "b", "c"}
    if ">&- " not in closed and closed != ">&-":
        printed = subprocess.run(f"{line} {closed}", shell=True, cwd=work, capture_output=True, check=True)
        assert json.loads(printed.stdout) == json.loads((work / "o.json").read_text())


def test_one_path_that_cannot_be_read_does_not_cost_the_others(work: Path) -> None:
    paths = ["v_one.npy", "features", "features/v_a.npy/x.npy", f"{'x' * 300}.npy", "no.npy"]
    done = run("stale-run", *paths, "--prompts", "classes.txt", "--report", "r.json", cwd=work)
    assert done.returncode == 5, done.stderr
    report = json.loads((work / "r.json").read_text())
    assert report["counts"] == {"videos": 7, "ok": 4, "failed": 3, "skipped": 0, "resumed": 0}
    said = [video["message"].rpartition(": ")[2] for video in report["videos"] if video["status"] == "failed"]
    assert said == ["Not a directory", "File name too long", "No such file or directory"]


def test_one_output_cannot_be_two_things(work: Path) -> None:
    arguments = ("features", "--prompts", "classes.txt", "-o", "o.json", "--report")
    for report in ("o.json", "features/../o.json", "o.json.partial.jsonl"):
        fails("stale-run", *arguments, report, cwd=work, code=2, says="the same file, or its journal; give two")


@pytest.mark.parametrize("option", ["--duration", "--fps"])
@pytest.mark.parametrize("value", ["nan", "inf", "1e308", "0", "-1"])
def test_a_number_that_is_none_is_wrong_usage(work: Path, option: str, value: str) -> None:
    stride = ["--stride", "16"] if option == "--fps" else []
    arguments = ("v_one.npy", "--prompts", "classes.txt", option, value, *stride)
    fails("stale-run", *arguments, cwd=work, code=2, says="is not in the range")


def test_an_interruption_while_modules_load_takes_one_line(work: Path) -> None:
    """Ctrl-C comes while each module in turn is loaded; third-party modules turn it into errors of their own."""
    modules = ("stale_runtime.batch.batch", "click", "numpy", "onnxruntime")
    for module in modules:
        (work / "site" / module.replace(".", "_")).mkdir(parents=True)
        (work / "site" / module.replace(".", "_") / "sitecustomize.py").write_text(INTERRUPTS.format(module=module))
        done = command.run(
            "stale-run",
            *("v_one.npy", "--prompts", "classes.txt"),
            cwd=work,
            PYTHONPATH=str(work / "site" / module.replace(".", "_")),
        )
        assert done.returncode == 130, (module, done.stderr)
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith("stale-run: error: interrupted; "), line


def test_windows_are_chosen_by_the_video_if_not_by_the_user(work: Path) -> None:
    """The tiny network was trained for 16 snippets; v_one has 40, and those in the folder fewer than 32."""
    options = ("v_one.npy", "features", "--prompts", "classes.txt", "--format", "json", "--report", "r.json", "-v")
    cases: dict[str, list[int | None]] = {"auto": [LARGEST, None, None, None], "off": [None] * 4, "64": [64] * 4}
    for window, expected in cases.items():
        done = run("stale-run", *options, "--window", window, cwd=work)
        assert done.returncode == 0, done.stderr
        report = json.loads((work / "r.json").read_text())
        assert [video["window"] for video in report["videos"]] == expected
        said = json.loads(done.stdout)["run"]["window"]
        assert str(said) == str(report["run"]["window"]) == window
        assert f"4 videos, {4 - expected.count(None)} of them through windows" in done.stderr


def test_a_window_may_be_longer_than_the_video(work: Path) -> None:
    assert "one" in detect(work, "v_one.npy", "--window", "4096")


@pytest.mark.parametrize("window", ["off", "64"])
def test_the_number_of_detections_and_classes_can_be_chosen(work: Path, window: str) -> None:
    found = {}
    for name, options in {"": [], "2": ["--max-detections", "2"], "1 class": ["--classes-per-video", "1"]}.items():
        content = json.loads(detect(work, "v_one.npy", "--format", "json", "--window", window, *options))
        found[name] = content["results"]["one"]
        assert (content["run"]["most_detections"], content["run"]["classes"]) == (
            2 if name == "2" else None,
            1 if name == "1 class" else 3,
        )
    assert found["2"] == found[""][:2]
    assert len({row["label"] for row in found[""]}) > 1
    if window == "off":
        assert len({row["label"] for row in found["1 class"]}) == 1
    assert found["1 class"] != found[""]


def test_class_names_may_stand_on_the_command_line(work: Path) -> None:
    given = run("stale-run", "v_one.npy", "--prompts", "classes.txt", "--format", "csv", cwd=work)
    names = [part for name in CLASSES for part in ("--prompt", name)]
    assert run("stale-run", "v_one.npy", *names, "--format", "csv", cwd=work).stdout == given.stdout
    mistake = ("v_one.npy", "--prompts", "Long jump, Archery")
    says = (
        "no such file, expected one with one class name per line; to give names themselves: --prompt 'Long jump' --pro"
    )
    fails("stale-run", *mistake, cwd=work, code=3, says=says)
    fails(
        "stale-run", "v_one.npy", "--prompts", "classes.txt", "--prompt", "a", cwd=work, code=2, says="write all names"
    )
    fails("stale-run", "-", "--prompts", "-", cwd=work, code=2, says="both would read standard input")


def test_names_are_read_from_a_pipe(work: Path) -> None:
    given = run("stale-run", "v_one.npy", "--prompts", "classes.txt", "--format", "csv", cwd=work)
    reading, writing = os.pipe()
    os.write(writing, (work / "classes.txt").read_bytes())
    os.close(writing)
    piped = run("stale-run", "v_one.npy", "--prompts", f"/dev/fd/{reading}", "--format", "csv", cwd=work)
    os.close(reading)
    assert piped.stdout == given.stdout


def test_a_fraction_is_a_frame_rate(work: Path) -> None:
    options = ("--prompts", "classes.txt", "--stride", "16", "--format", "csv")
    fraction = run("stale-run", "v_one.npy", *options, "--fps", "30000/1001", cwd=work)
    assert fraction.returncode == 0
    assert fraction.stdout == run("stale-run", "v_one.npy", *options, "--fps", str(30000 / 1001), cwd=work).stdout


def test_every_kind_of_feature_file_gives_the_same_and_what_is_ignored_is_said(work: Path) -> None:
    features = np.load(work / "v_one.npy")
    folder = work / "kinds"
    folder.mkdir()
    np.save(folder / "plain.npy", features)
    (folder / "plain.npy").rename(folder / "plain.NPY")
    np.savez_compressed(folder / "packed.npz", features)
    np.save(folder / "squeezed.npy", features[None])
    (folder / "other.pt").touch()
    done = run("stale-run", "kinds", "--prompts", "classes.txt", "--format", "jsonl", cwd=work)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["video"] for row in rows] == ["packed", "plain", "squeezed"]
    assert rows[0]["detections"] == rows[1]["detections"] == rows[2]["detections"]
    assert "kinds: 1 other file (1 .pt) ignored" in done.stderr
    assert re.search(r"squeezed\.npy: shape \(1, \d+, \d+\) is taken as", done.stderr)
