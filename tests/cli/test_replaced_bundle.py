"""Many runs at the same time with a bundle that is replaced meanwhile."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_export.bundle_writer import write_bundle
from stale_runtime.bundle.bundle import Bundle
from tests import tiny

PROCESSES = 8
NAMES = ("long jump", "snooker", "playing the harp", "polo")


@pytest.fixture(scope="module")
def other_bundle(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> Path:
    """A bundle of another network with another text tower."""
    folder = tmp_path_factory.mktemp("other")
    state = tiny.upstream_state(tiny.make_network(seed=1), tiny.make_tower(clip_folder, seed=1))
    return tiny.write_bundle(folder / "bundle", tiny.save_checkpoint(folder / "best.pth", state), clip_folder)


class Run:
    """A running ``stale-run``, whose result goes to a file, so that no pipe can fill up."""

    def __init__(self, work: Path, name: str, *, bundle: Path, cache: str) -> None:
        command = [str(Path(sys.executable).parent / "stale-run"), "v.npy", "--prompts", "classes.txt"]
        command += ["--bundle", str(bundle), "--cache", cache, "--format", "json", "-o", f"{name}.json"]
        self._output = work / f"{name}.json"
        self._process = subprocess.Popen(command, cwd=work, stderr=subprocess.PIPE, text=True)

    def is_over(self) -> bool:
        return self._process.poll() is not None

    def result(self) -> dict[str, Any]:
        _, complaint = self._process.communicate(timeout=120)
        assert self._process.returncode == 0, complaint
        content: dict[str, Any] = json.loads(self._output.read_text())
        return content


def test_each_of_eight_runs_sees_one_bundle_or_the_other(
    bundle: Path, other_bundle: Path, features: NDArray[np.float32], tmp_path: Path
) -> None:
    np.save(tmp_path / "v.npy", features)
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    alone = [
        Run(tmp_path, f"alone {n}", bundle=path, cache=f"cache {n}") for n, path in enumerate((bundle, other_bundle))
    ]
    expected = [run.result() for run in alone]
    by_hash = {content["run"]["bundle_sha256"]: content for content in expected}
    assert len(by_hash) == 2
    assert expected[0]["results"] != expected[1]["results"]

    place = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    exports = [
        (opened.manifest, {name: opened.read(name) for name in opened.manifest.files})
        for opened in map(Bundle, (other_bundle, bundle))
    ]
    runs = [Run(tmp_path, f"run {n}", bundle=place, cache="shared cache") for n in range(PROCESSES)]
    exported = 0
    while not all(run.is_over() for run in runs):
        write_bundle(place, *exports[exported % 2])
        exported += 1
    found = [run.result() for run in runs]
    assert exported > 2
    assert all(content == by_hash[content["run"]["bundle_sha256"]] for content in found)
