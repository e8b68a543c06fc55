"""Readers of single files: features, prompts, splits, annotations, durations, detections, labels, the prompt cache."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from random import Random

import numpy as np

from stale_runtime.batch.journal import FileState, Journal
from stale_runtime.bundle.manifest import Manifest
from stale_runtime.detections import Detection, VideoDetections
from stale_runtime.evaluation.ground_truth import read_ground_truth
from stale_runtime.evaluation.results import read_results
from stale_runtime.evaluation.thumos14 import read_class_numbers
from stale_runtime.evaluation.video_info import read_video_info
from stale_runtime.evaluation.video_labels import read_video_labels
from stale_runtime.inference.prompt_cache import PromptCache
from stale_runtime.inputs.feature_file import read_features
from stale_runtime.inputs.feature_origin import FeatureOrigin, read_sidecar, sidecar_path
from stale_runtime.inputs.feature_stream import read_rows
from stale_runtime.inputs.prompts import read_prompts
from stale_runtime.inputs.recipe import FeatureRecipe, clip_recipe, read_recipe
from stale_runtime.inputs.videos import read_durations
from tests.fuzz.mutations import mutate_archive, mutate_bytes, mutate_json, mutate_npy, pack_zip
from tests.fuzz.target import Target
from tests.runtime.bundle.test_manifest import MANIFEST, encoded
from tests.runtime.helpers import npy_bytes

CHANNELS = 4
ANNOTATIONS = [{"label": "polo", "segment": [0, 2.5]}, {"label": "archery", "segment": [3, 3], "id": 7}]
TRUTH = {
    "database": {
        "v_a": {"subset": "validation", "duration": 12.5, "annotations": ANNOTATIONS},
        "b": {"subset": "training", "annotations": []},
    }
}
ORIGINAL = {"v_a": {"duration_second": 12.5, "annotations": ANNOTATIONS}, "v_b": {"duration_second": 3}}
RESULTS = {"results": {"a": [{"label": "polo", "score": 0.5, "segment": [0, 1.5]}], "v_b": []}, "unit": "seconds"}
LABELS = {"v_a": {"class": "polo", "score": 0.9}, "b": {"class": "archery", "score": 1}}


def npy(folder: Path) -> Target:
    """``read_features`` of a ``.npy`` file."""
    path = folder / "video.npy"

    def run(data: bytes) -> object:
        path.write_bytes(data)
        features = read_features(path, CHANNELS)
        assert features.shape[1] == CHANNELS
        assert np.isfinite(features).all()
        return features

    data = np.arange(12, dtype="<f4").tobytes()
    seeds = [npy_bytes("(3, 4)", data, fortran_order=order) for order in ("False", "True")]
    seeds += [npy_bytes("(3, 4)", data * 2, descr="'>f8'"), npy_bytes("(6, 4)", data, descr="'<f2'")]
    version_2 = seeds[0][:6] + b"\x02\x00" + seeds[0][8:10] + b"\0\0" + seeds[0][10:]
    return Target(seeds=(*seeds, version_2), run=run, mutate=mutate_npy)


def npz(folder: Path) -> Target:
    """``read_features`` of an ``.npz`` archive."""
    whole = npy(folder)
    arrays = [("features.npy", seed) for seed in whole.seeds]
    seeds = [pack_zip([array], method) for array in arrays for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]
    return Target(seeds=(*seeds, pack_zip(arrays)), run=whole.run, mutate=mutate_archive)


def npy_stream(folder: Path) -> Target:
    """``read_rows`` of a ``.npy`` stream."""
    seeds = npy(folder).seeds

    def run(data: bytes) -> object:
        rows = list(read_rows(io.BytesIO(data).read, CHANNELS, raw=False))
        assert all(piece.shape[1:] == (CHANNELS,) for piece in rows)
        return rows

    return Target(seeds=(seeds[0], *seeds[2:]), run=run, mutate=mutate_npy)


def prompts(folder: Path) -> Target:
    """``read_prompts`` of a prompt file."""
    return _file(
        folder / "prompts.txt",
        lambda path: read_prompts(path).names,
        b"long jump\narchery\n# a comment\n\npolo\n",
        "\ufefflong jump\r\n\u0130stanbul\r\ncaf\u00e9\r\n".encode(),
    )


def recipe_target(folder: Path) -> Target:
    """``read_recipe``; what it returns must be written and read again unchanged."""
    path = folder / "recipe.json"

    def run(data: bytes) -> object:
        path.write_bytes(data)
        found = read_recipe(path)
        assert FeatureRecipe.from_json(json.loads(json.dumps(found.to_json()))) == found
        assert found.describe().isprintable()
        return found

    complete = clip_recipe("tower", snippet_s=0.2, tower_sha256="0" * 64)
    seeds = (json.dumps(complete.to_json()).encode(), b'{"frames": 4}')
    return Target(seeds=seeds, run=run, mutate=mutate_json)


def origin_target(folder: Path) -> Target:
    """``read_sidecar``; what it returns must be written and read again unchanged."""
    features = folder / "v.npy"

    def run(data: bytes) -> object:
        sidecar_path(features).write_bytes(data)
        found = read_sidecar(features)
        assert found is not None
        assert FeatureOrigin.from_json(json.loads(found.to_bytes())) == found
        return found

    recipe = clip_recipe("tower", snippet_s=0.2)
    origin = FeatureOrigin(recipe=recipe, duration_s=9.5, snippets=47, source_sha256="0" * 64)
    return Target(seeds=(origin.to_bytes(),), run=run, mutate=mutate_json)


def splits(folder: Path) -> Target:
    """``read_split`` of two class files, which an input holds with a ``|`` between them."""
    from stale_model.data.splits import read_split

    seen, unseen = folder / "seen.list", folder / "unseen.list"

    def run(data: bytes) -> object:
        first, _, second = data.partition(b"|")
        seen.write_bytes(first)
        unseen.write_bytes(second)
        return read_split(None, lists=None, seen=seen, unseen=unseen, labels={"long jump", "archery", "polo"})

    seeds = b"polo\n|archery\nlong jump\n", b"polo\npollo\n|", b"archery\n|archery\n"
    return Target(seeds=seeds, run=run)


def train_ids(folder: Path) -> Target:
    """``read_train_ids`` of a list of video ids, in each of its forms."""
    from stale_model.data.train_ids import read_train_ids

    seeds = b"# ids\nv_a\n\nb\r\n", json.dumps(TRUTH).encode(), json.dumps(ORIGINAL).encode(), b'["a", "v_b"]'
    return _file(folder / "ids", lambda path: sorted(read_train_ids(path).ids), *seeds)


def truth(folder: Path) -> Target:
    """``read_ground_truth`` of annotations in either format, with and without a subset."""

    def read(path: Path) -> Iterable[str]:
        found = read_ground_truth(path)
        read_ground_truth(path, subset="validation")
        return [*found.videos, *found.labels]

    return _json_file(folder / "truth.json", read, TRUTH, ORIGINAL)


def durations_csv(folder: Path) -> Target:
    """``read_durations`` of a CSV file."""
    seeds = b"video,seconds\nv_a,12.5\nb,3\n", b'v_a,12.5\n"b, c",3\r\n', b"id,seconds,video\n1,2.5,a\n"
    return _file(folder / "durations.csv", read_durations, *seeds)


def durations_json(folder: Path) -> Target:
    """``read_durations`` of a JSON file."""
    return _json_file(folder / "durations.json", read_durations, ORIGINAL, {"database": {"v_a": {"duration": 2.5}}})


def results(folder: Path) -> Target:
    """``read_results`` of detections."""

    def read(path: Path) -> Iterable[str]:
        found = read_results(path)
        return [found.unit, *found.videos, *(row.label for rows in found.videos.values() for row in rows)]

    return _json_file(folder / "detections.json", read, RESULTS)


def text_results_target(folder: Path) -> Target:
    """``read_results`` of detections in THUMOS14's text form."""

    def read(path: Path) -> Iterable[str]:
        found = read_results(path, class_numbers={26: "Diving"})
        return [*found.videos, *(row.label for rows in found.videos.values() for row in rows)]

    return _file(folder / "detections.txt", read, b"video_test_0000004 1.5 2 26 0.5\nv_a.mp4 0 1e1 5 -1\r\n\n")


def class_file_target(folder: Path) -> Target:
    """``read_ground_truth`` of one of THUMOS14's text files."""
    seeds = b"video_test_0000004 10.2 20.3 \r\nvideo_test_0000006  .5 1e1\n", b"a 1 2\n\nv_a 1 2\n"
    return _file(folder / "Diving_test.txt", lambda path: read_ground_truth(path, subset="test").videos, *seeds)


def class_numbers(folder: Path) -> Target:
    """``read_class_numbers`` of a file such as ``detclasslist.txt``."""
    seeds = b"7 BaseballPitch\n9 BasketballDunk\n", b"7 A\r\n\n7 A\n"
    return _file(folder / "detclasslist.txt", lambda path: read_class_numbers(path).values(), *seeds)


def video_info(folder: Path) -> Target:
    """``read_video_info`` of a CSV file."""

    def read(path: Path) -> Iterable[str]:
        found = read_video_info(path)
        return [*found, *(info.subset for info in found.values())]

    seeds = b"video,numFrame,seconds,subset\nv_a,1,12.5,training\n", b'subset, "seconds", video\r\nx, "3", "b, c"\r\n'
    return _file(folder / "video_info.csv", read, *seeds)


def labels(folder: Path) -> Target:
    """``read_video_labels`` of an external classifier's output."""

    def read(path: Path) -> Iterable[str]:
        found = read_video_labels(path)
        return [*found, *(label.label for label in found.values())]

    return _json_file(folder / "labels.json", read, LABELS)


def benchmark(folder: Path) -> Target:
    """``read_benchmark_results``, and its comparison with another."""
    from stale_bench.reporting.benchmark_results import read_benchmark_results
    from stale_bench.reporting.compare import compare, comparison_table
    from tests.bench.helpers import make_results, make_row

    path, whole = folder / "results.json", make_results(make_row())

    def run(data: bytes) -> object:
        path.write_bytes(data)
        table = comparison_table(compare(whole, read_benchmark_results(path)), "simple")
        table.encode()
        return table

    return Target(seeds=(whole.to_json().encode(),), run=run, mutate=mutate_json)


def journal(folder: Path) -> Target:
    """``Journal`` of an interrupted run, opened to resume and written to."""
    path, state = folder / "out.json.partial.jsonl", FileState(7, 8)
    rows = (Detection("polo", 0.5, 1.5, 0.25),)
    done = [VideoDetections(video=name, duration_s=2.5, detections=rows) for name in "abc"]
    with Journal(path, {"length": 16}, resume=False) as begun:
        for video in done[:2]:
            begun.add(state, video)
    whole = path.read_bytes()

    def run(data: bytes) -> object:
        path.write_bytes(data)
        with Journal(path, {"length": 16}, resume=True) as resumed:
            kept = resumed.finished("a", state)
            assert kept in (None, done[0])
            resumed.add(state, done[2])
        with Journal(path, {"length": 16}, resume=True) as again:
            assert (again.finished("a", state), again.finished("c", state)) == (kept, done[2])
        return kept

    return Target(seeds=(whole, whole[:-5], whole.splitlines(keepends=True)[0], b""), run=run)


def prompt_cache(folder: Path) -> Target:
    """``PromptCache.get`` of a cached file; an input's first byte decides whether the digest is made to match."""
    cache = PromptCache(folder, encoder="encoder", width=CHANNELS)
    vector = np.arange(CHANNELS, dtype=np.float32)
    cache.put(["a text"], vector[None])
    (path,) = (path for path in folder.rglob("*") if path.is_file())

    def run(data: bytes) -> object:
        content = data[1:]
        path.write_bytes(hashlib.sha256(content).digest() + content if data[:1] < b"\x80" else content)
        found = cache.get("a text")
        assert found is None or (found.shape == (CHANNELS,) and np.isfinite(found).all())
        return found

    return Target(seeds=(b"\0" + vector.tobytes(), b"\xff" + path.read_bytes()), run=run)


def manifest(_: Path) -> Target:
    """``Manifest.from_bytes`` of an input, which is first given the right layout and digest if it is JSON."""

    def run(data: bytes) -> object:
        try:
            content = json.loads(data)
            shallow = isinstance(content, dict) and data.count(b"[") + data.count(b"{") < 200  # sealing is slow
            sealed = encoded(content) if shallow else data
        except (ValueError, RecursionError):
            sealed = data
        found = Manifest.from_bytes(sealed)
        assert Manifest.from_bytes(found.to_bytes()) == found
        return found

    return Target(seeds=(MANIFEST.to_bytes(),), run=run, mutate=mutate_json)


def _file(
    path: Path,
    read: Callable[[Path], Iterable[str]],
    *seeds: bytes,
    mutate: Callable[[bytes, Random], bytes] = mutate_bytes,
) -> Target:
    """A reader of a text file that returns names; these must be writable as text."""
    return Target(seeds=seeds, run=partial(_check_names, path, read), mutate=mutate)


def _json_file(path: Path, read: Callable[[Path], Iterable[str]], *seeds: object) -> Target:
    return _file(path, read, *(json.dumps(seed).encode() for seed in seeds), mutate=mutate_json)


def _check_names(path: Path, read: Callable[[Path], Iterable[str]], data: bytes) -> object:
    path.write_bytes(data)
    names = list(read(path))
    "\n".join(names).encode()
    return names
