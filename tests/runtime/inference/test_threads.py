import io
import threading
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_runtime import EncodedPrompts, Localizer, VideoDetections
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.inference.text_encoder import TextEncoder
from stale_runtime.inputs.remote_files import Source
from tests import tiny

THREADS = 4
LENGTHS = (16, 17, 30, 33, 50, 200, 777, 3000)
NEW = ("yoga", "judo", "table tennis", "high dive", "javelin throw", "curling")

T = TypeVar("T")


def together(work: Callable[[int], T]) -> list[T]:
    """The results of four threads that start at the same time."""
    barrier = threading.Barrier(THREADS)

    def start(n: int) -> T:
        barrier.wait(timeout=60)
        return work(n)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(start, range(THREADS)))


@pytest.fixture(scope="module")
def videos() -> Mapping[str, NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    return {f"{T0}": generator.standard_normal((T0, tiny.CHANNELS)).astype(np.float32) for T0 in LENGTHS}


def in_turn(names: list[str], n: int) -> list[str]:
    """The names, rotated differently for each thread."""
    start = n * len(names) // THREADS
    return names[start:] + names[:start]


@pytest.mark.parametrize("length", ["auto", 16, 100])
def test_four_threads_find_what_one_does(
    bundle: Path, videos: Mapping[str, NDArray[np.float32]], length: int | str
) -> None:
    localizer = Localizer.open(bundle, length=length)  # type: ignore[arg-type]
    prompts = localizer.encode_prompts(tiny.CLASSES)

    def detect(names: list[str]) -> dict[str, VideoDetections]:
        return {name: localizer.detect(videos[name], prompts, duration_s=60.0, video=name) for name in names}

    expected = detect(list(videos))
    assert all(found.detections for found in expected.values())
    assert len({found.detections for found in expected.values()}) == len(videos)
    for found in together(lambda n: [detect(in_turn(list(videos), n)) for _ in range(5)]):
        assert found == [expected] * 5


def test_four_threads_read_files_as_one_does(
    bundle: Path, videos: Mapping[str, NDArray[np.float32]], tmp_path: Path
) -> None:
    paths = [tmp_path / f"{name}.npy" for name in videos]
    for path, features in zip(paths, videos.values(), strict=True):
        np.save(path, features)
    (tmp_path / "bad.npy").write_bytes(b"no features")
    paths.insert(3, tmp_path / "bad.npy")
    localizer = Localizer.open(bundle)
    filters = list(warnings.filters)

    def detect(_: int) -> list[tuple[Source, VideoDetections | None, str]]:
        outcomes = localizer.detect_many(paths, tiny.CLASSES)
        return [(path, found, str(error)) for path, found, error in outcomes]

    expected = detect(0)
    assert [found is None for _, found, _ in expected] == [path.stem == "bad" for path in paths]
    assert together(detect) == [expected] * THREADS
    assert warnings.filters == filters


def test_four_threads_encode_new_prompts_as_one_does(
    bundle: Path, private_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = TextEncoder(Bundle(bundle)).encode(NEW)
    opened = []
    original = TextEncoder.__init__

    def spy(self: TextEncoder, *arguments: Bundle, threads: int) -> None:
        opened.append(threads)
        original(self, *arguments, threads=threads)

    monkeypatch.setattr(TextEncoder, "__init__", spy)
    localizer = Localizer.open(bundle)

    def encode(n: int) -> EncodedPrompts:
        return localizer.encode_prompts(in_turn(list(NEW), n))

    for n, found in enumerate(together(encode)):
        assert found.names == tuple(in_turn(list(NEW), n))
        order = [found.names.index(name) for name in NEW]
        np.testing.assert_array_equal(found.embeddings[order], expected.embeddings)
        np.testing.assert_array_equal(found.queries[order], expected.queries)
    assert len(opened) == 1  # a text tower is large, and the other threads find what the first one kept
    assert len([path for path in private_cache.rglob("*") if path.is_file()]) == len(NEW)


def test_localizers_that_share_a_cold_cache_agree(bundle: Path, private_cache: Path) -> None:
    expected = TextEncoder(Bundle(bundle)).encode(NEW)
    for found in together(lambda _: Localizer.open(bundle).encode_prompts(NEW)):
        np.testing.assert_array_equal(found.embeddings, expected.embeddings)
        np.testing.assert_array_equal(found.queries, expected.queries)
    files = [path for path in private_cache.rglob("*") if path.is_file()]
    assert len(files) == len(NEW)
    assert len({path.stat().st_mode & 0o777 for path in files}) == 1


def test_a_localizer_is_not_shared_with_another_s_features(bundle: Path) -> None:
    """Two threads with different prompts and videos do not get each other's results."""
    localizer = Localizer.open(bundle)
    generator = np.random.default_rng(1)
    jobs = [(generator.standard_normal((40 + n, tiny.CHANNELS)).astype(np.float32), NEW[n : n + 2]) for n in range(4)]
    expected = [localizer.detect(*job) for job in jobs]
    for _ in range(5):
        assert together(lambda n: localizer.detect(*jobs[n])) == expected


def test_saved_arrays_of_python_2_are_read_without_a_warning_in_threads(bundle: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.ones((20, tiny.CHANNELS), np.float32))
    path = tmp_path / "old.npy"
    path.write_bytes(buffer.getvalue().replace(b"(20, 16), }", b"(20L,16), }"))
    localizer = Localizer.open(bundle)
    found = together(lambda _: localizer.detect_file(path, tiny.CLASSES))
    assert found == [found[0]] * THREADS
