"""``stale-export`` as a user types it. What does not need PyTorch is run in a process that cannot import it."""

import hashlib
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch

from stale_export import exporter
from stale_runtime.bundle.bundle import Bundle
from tests import tiny
from tests.cli import same_process
from tests.cli.command import run
from tests.cli.same_process import Done
from tests.runtime.video.encoders import write_encoder
from tests.signing import make_keys

NAME = "stale-export"
FROM = ("--ckpt", "best.pth", "--clip", "clip")
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None  # an import of them fails
from stale_export.__main__ import main
main()
"""


@pytest.fixture
def work(checkpoint: Path, clip_folder: Path, tmp_path: Path) -> Path:
    shutil.copy(checkpoint, tmp_path / "best.pth")
    shutil.copytree(clip_folder, tmp_path / "clip")
    return tmp_path


@pytest.fixture
def _traced(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the text encoder graph from a bundle of the same checkpoint, since tracing it takes seconds."""
    model = onnx.load_from_string((bundle / "text_encoder.onnx").read_bytes())
    monkeypatch.setattr(exporter, "text_encoder_model", lambda *_: model)


def export(work: Path, *arguments: str | Path) -> Done:
    return same_process.run(NAME, *arguments, cwd=work)


def refused(work: Path, *arguments: str, code: int, says: str) -> None:
    """The command ends with a code, says why in its last line, and leaves nothing behind."""
    before = sorted(path.name for path in work.iterdir())
    done = export(work, *arguments)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == code, done.stderr
    assert last.startswith("stale-export: error: "), done.stderr
    assert says in last
    assert sorted(path.name for path in work.iterdir()) == before


def run_without_torch(work: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in a process that cannot import PyTorch."""
    command = [sys.executable, "-c", WITHOUT_TORCH, *arguments]
    return subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)


def test_a_checkpoint_becomes_a_bundle_that_runs(work: Path) -> None:
    done = run(NAME, *FROM, cwd=work)
    assert done.returncode == 0, done.stderr
    table, _, pin = done.stdout.rstrip().rpartition("\n\n")
    assert pin == f"sha256 of the bundle, for stale-run --expect-sha256: {sha256(work / 'stale_bundle')}"
    header, _, *rows = table.splitlines()
    assert all(name in header for name in ("file", "size", "max deviation", "int8", "layers in float", "mAP"))
    assert [row.split()[0] for row in rows if "int8" in row] == [
        *("localizer.int8.onnx", "localizer.int8-dynamic.onnx", "localizer.torch-int8.pth")
    ]
    assert sorted(path.name for path in work.iterdir()) == ["best.pth", "clip", "stale_bundle"]
    assert same_process.run("stale-run", "--self-test", cwd=work).returncode == 0


@pytest.mark.usefixtures("_traced")
def test_classes_are_embedded_and_another_folder_is_used(work: Path) -> None:
    (work / "names.txt").write_text("polo\nchess\n")
    done = export(work, *FROM, "--classes", "names.txt", "-o", "mine")
    assert done.returncode == 0, done.stderr
    assert (work / "mine" / "manifest.json").exists()


def sha256(bundle: Path) -> str:
    return hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()


@pytest.mark.usefixtures("_traced")
def test_an_export_is_signed(work: Path) -> None:
    keys = make_keys(work / "keys")
    refused(work, *FROM, "--sign", "keys/key.pub", code=3, says="key.pub: not a usable private key")
    assert export(work, *FROM, "--sign", keys.private).returncode == 0
    assert Bundle(work / "stale_bundle", verify_key=keys.public).manifest_sha256 == sha256(work / "stale_bundle")


class Code:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("hacked"),))


def test_code_in_a_checkpoint_is_never_run(work: Path) -> None:
    (work / "best.pth").write_bytes(pickle.dumps(Code()))
    refused(work, *FROM, code=3, says="not a PyTorch checkpoint")
    torch.save({"epoch": 1, "state_dict": Code()}, work / "best.pth")
    refused(work, *FROM, code=3, says="cannot be read as plain tensors")


def test_a_damaged_checkpoint_is_named(work: Path) -> None:
    state = tiny.upstream_state(tiny.make_network(), tiny.make_tower(work / "clip"))
    lacking = {name: tensor for name, tensor in state.items() if name != "cross_att.fc.bias"}
    tiny.save_checkpoint(work / "best.pth", lacking)
    refused(work, *FROM, code=3, says="cross_adaptation.output.bias")
    tiny.save_checkpoint(work / "best.pth", {**state, "cross_att.fc.bias": torch.zeros(3)})
    refused(work, *FROM, code=3, says="cross_att.fc.bias has shape (3,)")


def test_something_else_at_the_output_is_left_alone(work: Path) -> None:
    (work / "stale_bundle").mkdir()
    (work / "stale_bundle" / "thesis.tex").write_text("precious")
    refused(work, *FROM, code=2, says="exists and is not a bundle")
    assert (work / "stale_bundle" / "thesis.tex").read_text() == "precious"


def test_missing_inputs_are_usage_or_input_errors(work: Path) -> None:
    refused(work, "--clip", "clip", code=2, says="--ckpt")
    refused(work, "--ckpt", "nowhere.pth", code=3, says="nowhere.pth")
    refused(work, "--ckpt", "best.pth", "--clip", "best.pth", code=3, says="config.json and tokenizer.json")
    refused(work, *FROM, "--classes", "nowhere.txt", code=3, says="nowhere.txt")
    refused(work, *FROM, "-o", "nowhere/bundle", code=2, says="create it first")


def test_what_is_wrong_with_the_arguments_is_found_before_torch_is_loaded(work: Path) -> None:
    for wrong in (["--target", "sse"], ["--classes", "nowhere.txt"], ["--sign", "nowhere"]):
        done = run_without_torch(work, *FROM, *wrong)
        assert done.returncode in (2, 3), done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert "torch" not in done.stderr
    done = run_without_torch(work, *FROM)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 6
    assert last.startswith("stale-export: error: exporting needs torch, which is not installed; install it with: ")
    assert " -m pip install 'stale-edge[export]' (PyTorch may bring gigabytes of CUDA" in last


def test_help_needs_no_torch_and_teaches(work: Path) -> None:
    done = run_without_torch(work, "--help")
    assert done.returncode == 0
    assert "stale-export --ckpt best.pth" in done.stdout
    for typed in ("--ckpt FILE", "--clip ID|FOLDER", "--output FOLDER", "--target [portable|vnni]"):
        assert typed in done.stdout


@pytest.mark.usefixtures("_traced")
def test_a_bundle_gets_a_vision_tower_and_its_recipe(work: Path, vision_folder: Path) -> None:
    (work / "how.json").write_text('{"snippet_s": 0.2, "frames": 1, "normalised": false}')
    done = export(work, *FROM, "--vision", vision_folder, "--recipe", "how.json")
    assert done.returncode == 0, done.stderr
    assert "vision_encoder.int8.onnx: cosine of int8 and float embeddings at least 0." in done.stderr
    assert "unknown; stale-run needs" not in done.stderr
    assert "vision_encoder.int8.onnx" in done.stdout
    manifest = Bundle(work / "stale_bundle").manifest
    assert manifest.vision is not None
    assert manifest.vision.recipe.usable
    assert manifest.recipe.snippet_s == manifest.vision.recipe.snippet_s == 0.2
    checked = run("stale-run", "--self-test", cwd=work)
    assert checked.returncode == 0, checked.stderr
    assert "vision tower in int8: image_embeddings" in checked.stdout


def test_a_vision_tower_that_cannot_be_used_leaves_nothing_behind(work: Path) -> None:
    refused(work, *FROM, "--vision", "best.pth", code=3, says="--vision best.pth: a file; give a Hugging Face id")
    refused(work, *FROM, "--vision", "clip", code=3, says="--vision clip: ")
    refused(work, *FROM, "--recipe", "none.json", code=3, says="none.json: No such file")
    tiny.write_vision_folder(work / "wide", tiny.make_vision_tower(projection_dim=24))
    says = "--vision wide: its embeddings are 24 wide, the network's features 16"
    refused(work, *FROM, "--vision", "wide", code=1, says=says)
    write_encoder(work / "narrow", width=12)
    refused(work, *FROM, "--vision", "narrow", code=3, says="embeddings are 16 wide")
