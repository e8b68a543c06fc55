"""``--timeout``: a bundle whose graph goes on for ever costs one line for each video."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from stale_runtime import Localizer
from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.errors import TimeLimitError
from stale_runtime.inference.settings import Settings
from tests import tiny
from tests.cli.same_process import fails, run
from tests.runtime.helpers import with_file

ENDLESS = "took longer than the limit of 0.2 s; allow more (--timeout)"


def never_ending(model: ModelProto) -> bytes:
    """A graph that computes the same after a loop of years."""
    kinds = [("i", TensorProto.INT64), ("going", TensorProto.BOOL), ("zero", TensorProto.FLOAT)]
    inputs = [helper.make_tensor_value_info(name, kind, []) for name, kind in kinds]
    outputs = [helper.make_tensor_value_info(f"{name}_on", kind, []) for name, kind in kinds[1:]]
    nodes = [helper.make_node("Identity", [name], [f"{name}_on"]) for name, _ in kinds[1:]]
    body = helper.make_graph(nodes, "body", inputs, outputs)
    wanted = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["before" if name == wanted else name for name in node.output]
    loop = helper.make_node("Loop", ["years", "", "nothing"], ["after"], body=body)
    model.graph.node.extend([loop, helper.make_node("Add", ["before", "after"], [wanted])])
    arrays = {"years": np.array(2**62), "nothing": np.array(0, np.float32)}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return bytes(model.SerializeToString())


@pytest.fixture
def work(bundle: Path, tmp_path: Path) -> Path:
    """A folder with the bundle of a graph that never ends, prompts, and features of two videos."""
    model = onnx.load_from_string((bundle / layout.LOCALIZER_FP32).read_bytes())
    with_file(bundle, tmp_path / "stale_bundle", layout.LOCALIZER_FP32, never_ending(model))
    (tmp_path / "classes.txt").write_text("\n".join(tiny.CLASSES))
    (tmp_path / "videos").mkdir()
    for name in "ab":
        np.save(tmp_path / "videos" / f"{name}.npy", np.ones((20, tiny.CHANNELS), np.float32))
    return tmp_path


@pytest.mark.parametrize("window", ["off", "64"])
def test_each_video_that_takes_too_long_is_named(work: Path, window: str) -> None:
    options = ("--prompts", "classes.txt", "--backend", "ort-fp32", "--timeout", "0.2", "--window", window)
    done = run("stale-run", "videos", *options, "--report", "report.json", cwd=work)
    assert done.returncode == 3
    assert all(f"{name}.npy: {ENDLESS}" in done.stderr for name in "ab"), done.stderr
    report = json.loads((work / "report.json").read_text())
    assert all("took longer" in json.dumps(row) for row in report["videos"])


def test_the_self_test_has_a_limit_as_well(work: Path) -> None:
    done = run("stale-run", "--self-test", "--timeout", "3", cwd=work)
    assert done.returncode == 3
    assert "--self-test: took longer than the limit of 3 s" in done.stderr


def test_a_tower_with_a_loop_is_not_opened(bundle: Path, work: Path) -> None:
    model = onnx.load_from_string((bundle / layout.TEXT_ENCODER).read_bytes())
    with_file(bundle, work / "tower", layout.TEXT_ENCODER, never_ending(model))
    (work / "new.txt").write_text("something unknown\n")
    options = ("--prompts", "new.txt", "--bundle", "tower", "--no-cache")
    fails("stale-run", "videos/a.npy", *options, cwd=work, code=4, says="text_encoder.onnx: has a loop (Loop)")


def test_the_library_has_the_limit_and_goes_on_after_it(work: Path, bundle: Path) -> None:
    settings = Settings(backend="ort-fp32", timeout_s=0.2, cache=False)
    localizer = Localizer(Bundle(work / "stale_bundle"), settings)
    prompts = localizer.encode_prompts(tiny.CLASSES)
    features = np.ones((20, tiny.CHANNELS), np.float32)
    for _ in range(2):
        with pytest.raises(TimeLimitError, match=r"^archive: took longer"):
            localizer.detect(features, prompts, video="archive")
    stream = localizer.stream(prompts)
    stream.push(features)
    with pytest.raises(TimeLimitError, match=r"^the stream: "):
        stream.finish()
    sound = Localizer.open(bundle, backend="ort-fp32", timeout_s=60)
    assert sound.detect(features, prompts).video == "video"
    with pytest.raises(ValueError, match="timeout_s 0, expected more than 0 seconds"):
        Localizer.open(bundle, timeout_s=0)
