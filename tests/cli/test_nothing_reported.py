"""No command connects to anything, nor writes a file elsewhere than it was told to.

What is traced are the system calls of the processes and their children, because libraries report in C++ as well.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from stale_runtime.inference.backends import LOCALIZER_BACKENDS
from tests import tiny
from tests.small_video import write_clip

SCRIPT = """
import json, sys
from importlib import import_module

for module, *arguments in json.loads(sys.argv[1]):
    sys.argv = ["command", *arguments]
    try:
        import_module(module).main()
    except SystemExit as ended:
        if ended.code:
            sys.exit(f"{module} {arguments}: {ended.code}")
"""
RUN, FEATURES = "stale_runtime.commands.run", "stale_runtime.commands.extract_features"
CALLS = "connect,sendto,sendmsg,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2"
NAMED = re.compile(r'"((?:[^"\\]|\\.)*)"')


def trace(commands: Sequence[Sequence[str | Path]], work: Path) -> list[str]:
    """Run commands in one process, in a folder and with an empty home, and return the system calls that succeeded."""
    if shutil.which("strace") is None or subprocess.run(["strace", "-qq", "true"], check=False).returncode:
        pytest.skip("strace is not installed, or not allowed here")
    (work / "home").mkdir()
    unset = ("CI", "XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY", "HF_HUB_OFFLINE", "MPLCONFIGDIR")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"HOME": str(work / "home"), "TMPDIR": str(work), "STALE_CACHE": str(work / "cache")}
    listed = json.dumps([[str(argument) for argument in command] for command in commands])
    tracing = ["strace", "-f", "-qq", "--seccomp-bpf", "-s", "4096", "-e", f"trace={CALLS}", "-o", "calls.txt"]
    done = subprocess.run(
        [*tracing, sys.executable, "-B", "-c", SCRIPT, listed],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    calls = (work / "calls.txt").read_text(errors="replace").splitlines()
    return [call for call in calls if "connect(" in call or not re.search(r"= -1 E\w+", call)]


def connections(calls: Sequence[str]) -> list[str]:
    """The calls that reach beyond this machine; sockets between processes of it are AF_UNIX."""
    return [call for call in calls if "AF_INET" in call]


def written_elsewhere(calls: Sequence[str], work: Path) -> set[str]:
    """Paths outside the work folder that were opened for writing, or made."""
    making = [call for call in calls if "O_CREAT" in call or "mkdir" in call or "rename" in call or "creat(" in call]
    paths = {os.path.normpath(work / path) for call in making for path in NAMED.findall(call)[-1:]}
    shared = ("/dev/null", "/dev/shm/", "/dev/tty")  # processes of one run share memory
    return {path for path in paths if not path.startswith((str(work), *shared))}


def in_home(work: Path) -> set[str]:
    return {str(path.relative_to(work / "home")) for path in (work / "home").rglob("*")}


def test_commands_of_the_runtime_report_nothing(vision_bundle: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "v.mp4", 4)
    np.save(tmp_path / "f.npy", np.random.default_rng(0).standard_normal((40, tiny.CHANNELS)).astype(np.float32))
    (tmp_path / "classes.txt").write_text("polo\nan unknown one\n")
    truth = {"f": {"duration": 20, "subset": "validation", "annotations": [{"label": "polo", "segment": [1, 9]}]}}
    (tmp_path / "truth.json").write_text(json.dumps({"database": truth}))
    given = ("--prompts", "classes.txt", "--bundle", vision_bundle)
    engines = ["ort-fp32"] + (["openvino-fp32"] if find_spec("openvino") is not None else [])
    calls = trace(
        [
            (RUN, "--self-test", "--bundle", vision_bundle),  # with every backend that there is
            *((RUN, "f.npy", *given, "--duration", "20", "--backend", name) for name in engines),
            (RUN, "v.mp4", *given, "--format", "html", "-o", "page.html"),
            (RUN, "f.npy", *given, "--duration", "20", "--format", "json", "-o", "found.json"),
            (FEATURES, "v.mp4", "--bundle", vision_bundle, "-o", "features"),
            ("stale_runtime.commands.evaluate", "found.json", "--ground-truth", "truth.json"),
        ],
        tmp_path,
    )
    assert set(engines) <= set(LOCALIZER_BACKENDS)
    assert any("found.json" in call for call in calls)  # it traces
    assert connections(calls) == []
    assert written_elsewhere(calls, tmp_path) == set()
    assert in_home(tmp_path) == set()


def test_training_and_export_report_nothing(training_data: Path, clip_folder: Path, tmp_path: Path) -> None:
    data = ("--annotations", training_data / "annotations.json", "--features", training_data / "features")
    kind = ("--split", "closed", "--clip", clip_folder, "--length", str(tiny.LENGTH), "--batch-size", "4")
    calls = trace(
        [
            ("stale_model.train_command", *data, *kind, "--epochs", "1", "--device", "cpu", "-o", "training"),
            ("stale_export.export_command", "--ckpt", "training/best.pth", "--clip", clip_folder, "-o", "bundle"),
        ],
        tmp_path,
    )
    assert any("manifest.json" in call for call in calls)
    assert connections(calls) == []
    assert written_elsewhere(calls, tmp_path) == set()
    fonts = {path for path in in_home(tmp_path) if not path.startswith((".cache", ".config"))}
    assert fonts == set()  # matplotlib keeps its list of fonts


def test_openvino_s_reports_are_off_without_tracing_as_well() -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed: stale-edge[openvino]")
    code = "import stale_runtime.inference.openvino_session, sys; import openvino.tools.ovc.telemetry_utils as t; "
    code += "sys.exit(t.tm.__name__ != 'openvino.tools.ovc.telemetry_stub')"
    subprocess.run([sys.executable, "-c", code], check=True)
