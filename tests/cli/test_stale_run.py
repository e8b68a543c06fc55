import hashlib
import json
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
from tests.tiny import CLASSES

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
