import hashlib
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from stale_runtime.bundle.bundle import Bundle
from tests import tiny
from tests.cli.command import run
from tests.signing import make_keys


@pytest.fixture
def work(checkpoint: Path, clip_folder: Path, tmp_path: Path) -> Path:
    shutil.copy(checkpoint, tmp_path / "best.pth")
    shutil.copytree(clip_folder, tmp_path / "clip")
    return tmp_path


def refused(work: Path, *arguments: str, code: int, says: str) -> None:
    """The command ends with a code, says what, shows no traceback and leaves nothing behind."""
    before = sorted(path.name for path in work.iterdir())
    done = run("stale-export", *arguments, cwd=work)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == code, done.stderr
    assert last.startswith("stale-export: error: "), done.stderr
    assert says in last
    assert sorted(path.name for path in work.iterdir()) == before


def test_a_checkpoint_becomes_a_bundle_that_runs(work: Path) -> None:
    done = run("stale-export", "--ckpt", "best.pth", "--clip", "clip", cwd=work)
    assert done.returncode == 0, done.stderr
    table, _, pin = done.stdout.rstrip().rpartition("\n\n")
    assert pin == f"sha256 of the bundle, for stale-run --expect-sha256: {sha256(work / 'stale_bundle')}"
    header, _, *rows = table.splitlines()
    assert all(name in header for name in ("file", "size", "max deviation", "int8", "layers in float", "mAP"))
    assert [row.split()[0] for row in rows if "int8" in row] == [
        *("localizer.int8.onnx", "localizer.int8-dynamic.onnx", "localizer.torch-int8.pth")
    ]
    assert sorted(path.name for path in work.iterdir()) == ["best.pth", "clip", "stale_bundle"]
    assert run("stale-run", "--self-test", cwd=work).returncode == 0


def test_classes_are_embedded_and_another_folder_is_used(work: Path) -> None:
    (work / "names.txt").write_text("polo\nchess\n")
    done = run("stale-export", "--ckpt", "best.pth", "--clip", "clip", "--classes", "names.txt", "-o", "mine", cwd=work)
    assert done.returncode == 0, done.stderr
    assert (work / "mine" / "manifest.json").exists()


def sha256(bundle: Path) -> str:
    return hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()


def test_an_export_is_signed(work: Path) -> None:
    keys = make_keys(work / "keys")
    export = ("--ckpt", "best.pth", "--clip", "clip")
    refused(work, *export, "--sign", "keys/key.pub", code=3, says="key.pub: not a usable private key")
    assert run("stale-export", *export, "--sign", keys.private, cwd=work).returncode == 0
    assert Bundle(work / "stale_bundle", verify_key=keys.public).manifest_sha256 == sha256(work / "stale_bundle")


class Code:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("hacked"),))


def test_code_in_a_checkpoint_is_never_run(work: Path) -> None:
    (work / "best.pth").write_bytes(pickle.dumps(Code()))
    refused(work, "--ckpt", "best.pth", "--clip", "clip", code=3, says="not a PyTorch checkpoint")
    torch.save({"epoch": 1, "state_dict": Code()}, work / "best.pth")
    refused(work, "--ckpt", "best.pth", "--clip", "clip", code=3, says="cannot be read as plain tensors")


def test_a_damaged_checkpoint_is_named(work: Path) -> None:
    state = tiny.upstream_state(tiny.make_network(), tiny.make_tower(work / "clip"))
    lacking = {name: tensor for name, tensor in state.items() if name != "cross_att.fc.bias"}
    tiny.save_checkpoint(work / "best.pth", lacking)
    refused(work, "--ckpt", "best.pth", "--clip", "clip", code=3, says="cross_adaptation.output.bias")
    tiny.save_checkpoint(work / "best.pth", {**state, "cross_att.fc.bias": torch.zeros(3)})
    refused(work, "--ckpt", "best.pth", "--clip", "clip", code=3, says="cross_att.fc.bias has shape (3,)")


def test_something_else_at_the_output_is_left_alone(work: Path) -> None:
    (work / "stale_bundle").mkdir()
    (work / "stale_bundle" / "thesis.tex").write_text("precious")
    refused(work, "--ckpt", "best.pth", "--clip", "clip", code=2, says="something else is there")
    assert (work / "stale_bundle" / "thesis.tex").read_text() == "precious"


def test_missing_inputs_are_usage_or_input_errors(work: Path) -> None:
    refused(work, "--clip", "clip", code=2, says="--ckpt")
    refused(work, "--ckpt", "nowhere.pth", code=3, says="nowhere.pth")
    refused(work, "--ckpt", "best.pth", "--clip", "best.pth", code=3, says="config.json and tokenizer.json")


def test_help_needs_no_torch_and_teaches(tmp_path: Path) -> None:
    done = run("stale-export", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "stale-export --ckpt best.pth" in done.stdout
