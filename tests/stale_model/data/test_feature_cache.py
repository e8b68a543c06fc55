"""Features from a cache are those of the files, and a cache is never taken for what it is not."""

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stale_model.data import feature_cache as cache_module
from stale_model.data.cache_file import HEADER_BYTES
from stale_model.data.feature_cache import FeatureCache, feature_cache, read_resampled
from stale_model.data.usable_features import UsableFeatures, examine_features
from stale_runtime.errors import FeatureError, OutputError
from stale_runtime.inputs.feature_origin import FeatureOrigin, sidecar_path
from stale_runtime.inputs.recipe import FeatureRecipe
from tests.cli.test_train_endings import largest_file

C, T = 6, 16
NAMES = ("v_a.npy", "b.npy", "square.npy", "zeros.npy", "long.npy")


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """A folder of feature files of several lengths and precisions, one with its origin beside it."""
    folder = tmp_path / "features"
    folder.mkdir()
    dice = np.random.default_rng(0)
    sizes = {"v_a.npy": 9, "b.npy": T, "square.npy": C, "long.npy": 400}
    for n, (name, snippets) in enumerate(sizes.items()):
        np.save(folder / name, dice.standard_normal((snippets, C)).astype((np.float32, np.float16, np.float64)[n % 3]))
    np.save(folder / "zeros.npy", np.zeros((3, C), np.float32))
    recipe = FeatureRecipe(tower="a tower", snippet_s=0.5)
    origin = FeatureOrigin(recipe=recipe, duration_s=4.6, snippets=9, source_sha256="0" * 64)
    sidecar_path(folder / "v_a.npy").write_bytes(origin.to_bytes())
    return folder


def make(features: Path, names: tuple[str, ...] = NAMES, say: Callable[[str], object] = print) -> FeatureCache:
    with feature_cache(features.parent / "cache", features, length=T, channels=C, say=say) as builder:
        for name in names:
            builder.examine(features / name)
        return builder.finish()


def cache_path(features: Path) -> Path:
    (path,) = (features.parent / "cache").glob("*.safetensors")
    return path


def assert_equal_to_files(cache: FeatureCache, features: Path, names: tuple[str, ...] = NAMES) -> None:
    for name in names:
        read = read_resampled(features / name, channels=C, length=T)
        cached = read_resampled(features / name, channels=C, length=T, cache=cache)
        assert cached.dtype == read.dtype == np.float32
        assert cached.tobytes() == read.tobytes(), name


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the feature files that were read to make a cache."""
    read: list[str] = []

    def examine_and_note(path: Path, channels: int) -> tuple[object, UsableFeatures]:
        read.append(path.name)
        return examine_features(path, channels)

    monkeypatch.setattr(cache_module, "examine_features", examine_and_note)
    return read


def test_a_cache_has_the_bits_of_the_files_and_is_read_by_other_programs(features: Path, reads: list[str]) -> None:
    from safetensors.numpy import load_file

    cache = make(features)
    assert_equal_to_files(cache, features)
    assert load_file(cache_path(features))["features"][1].tobytes() == cache.read(features / NAMES[1]).tobytes()
    again = make(features)
    assert reads == list(NAMES)
    assert_equal_to_files(again, features)
    assert_equal_to_files(pickle.loads(pickle.dumps(again)), features)


def test_what_is_known_of_a_file_comes_from_the_cache_as_from_the_file(features: Path) -> None:
    make(features)
    with feature_cache(features.parent / "cache", features, length=T, channels=C, say=print) as builder:
        for name in NAMES:
            cached, (_, known) = builder.examine(features / name), examine_features(features / name, C)
            assert (cached.origin, cached.note) == (known.origin, known.note)
            assert (cached.origin is not None) == (name == "v_a.npy")
            assert cached.summary is not None
            assert known.summary is not None
            assert (known.summary.transposed is not None) == (name == "square.npy")
            for field, value in vars(known.summary).items():
                np.testing.assert_array_equal(getattr(cached.summary, field), value, strict=True)


def test_only_what_is_new_or_has_changed_is_read_again(features: Path, reads: list[str]) -> None:
    first = make(features, NAMES[:3])
    reads.clear()
    changed = features / "b.npy"
    status = changed.stat()
    np.save(changed, np.ones((T, C), np.float16))  # as large as before
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    sidecar_path(features / "v_a.npy").unlink()
    np.save(features / "new.npy", np.ones((2, C), np.float32))
    names = ("v_a.npy", "b.npy", "new.npy", "long.npy")
    before = first.read(changed)
    cache = make(features, names)
    assert reads == list(names)
    assert_equal_to_files(cache, features, (*names, "square.npy"))  # which nobody asked for, and is still right
    assert first.read(changed).tobytes() == before.tobytes()  # a training that runs goes on with what it has
    (features / "square.npy").unlink()
    np.save(features / "more.npy", np.ones((2, C), np.float32))
    assert set(make(features, ("more.npy",)).rows) == {*names, "more.npy"}


def test_a_file_that_cannot_be_used_is_no_part_of_a_cache(features: Path, reads: list[str]) -> None:
    np.save(features / "bad.npy", np.full((3, C), np.nan))
    for _ in range(2):
        with feature_cache(features.parent / "cache", features, length=T, channels=C, say=print) as builder:
            builder.examine(features / "b.npy")
            with pytest.raises(FeatureError, match="NaN or infinity"):
                builder.examine(features / "bad.npy")
            assert set(builder.finish().rows) == {"b.npy"}
    assert reads == ["b.npy", "bad.npy", "bad.npy"]


def test_another_folder_or_length_has_another_cache(features: Path) -> None:
    make(features)
    with feature_cache(features.parent / "cache", features, length=T + 1, channels=C, say=print) as builder:
        builder.examine(features / "b.npy")
        assert builder.finish().read(features / "b.npy").shape == (T + 1, C)
    other = features.rename(features.with_name("other"))
    make(other)
    assert len(list((features.parent / "cache").glob("*.safetensors"))) == 3


def edit_index(data: bytes, old: str, new: str) -> bytes:
    """Replace text in the index, with as many bytes."""
    assert data.count(old.encode()) >= 1, old
    return data.replace(old.encode(), new.encode().ljust(len(old)))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda data: data[:-1],
    "too long": lambda data: data + b" ",
    "another file": lambda data: bytes(len(data)),
    "another tensor": lambda data: data.replace(b'"features":{', b'"featureX":{', 1),
    "another type": lambda data: data.replace(b"F32", b"F16", 1),
    "huge": lambda data: data.replace(b"[5,16,6]", b"[9,16,6]", 1),
    "negative": lambda data: data.replace(b"[5,16,6]", b"[-5,6,6]", 1),
    "no numbers": lambda data: data.replace(b"[5,16,6]", b'["",1,6]', 1),
    "no index": lambda data: edit_index(data, '{"format_version"', "{format_version"),
    "version": lambda data: edit_index(data, '"format_version":1', '"format_version":9'),
    "folder": lambda data: edit_index(data, '/features","entries"', '/FEATURES","entries"'),
    "fewer videos": lambda data: edit_index(data, '"snippets":400', '"snippets":"a"'),
    "negative number": lambda data: edit_index(data, '"snippets":400', '"snippets":-40'),
    "a direction that is none": lambda data: edit_index(data, '"direction":5', '"direction":9'),
    "an entry of another kind": lambda data: edit_index(data, '"note":null', '"none":null'),
    "an impossible recipe": lambda data: edit_index(data, '"snippet_s":0.5', '"snippet_s":-99'),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_cache_is_named_and_made_again(features: Path, reads: list[str], kind: str) -> None:
    path = make(features).file.path
    whole = path.read_bytes()
    damaged = DAMAGES[kind](whole)
    assert damaged != whole
    path.write_bytes(damaged)
    said: list[str] = []
    assert_equal_to_files(make(features, say=said.append), features)
    assert said[0].startswith(f"--cache-features: {path}: ")
    assert said[0].endswith("; it is made again")
    assert reads == [*NAMES, *NAMES]
    assert path.read_bytes()[HEADER_BYTES:] == whole[HEADER_BYTES:]


def test_directions_that_are_none_are_noticed(features: Path) -> None:
    cache = make(features)
    data = bytearray(cache.file.path.read_bytes())
    start = cache.file.shape.directions_from
    data[start : start + 4] = np.float32(np.nan).tobytes()
    cache.file.path.write_bytes(data)
    said: list[str] = []
    make(features, say=said.append)
    assert "directions that are not of length 1; it is made again" in said[0]


def test_nan_in_a_cache_is_named_with_the_remedy(features: Path) -> None:
    cache = make(features)
    with open(cache.file.path, "r+b") as file:
        file.seek(HEADER_BYTES + cache.file.shape.row_bytes)
        file.write(np.float32(np.nan).tobytes())
    assert_equal_to_files(cache, features, (NAMES[0], *NAMES[2:]))
    with pytest.raises(FeatureError, match=r"NaN or infinity.* 1 of 16 snippets.*; delete it, and it is made again"):
        cache.read(features / NAMES[1])
    os.truncate(cache.file.path, HEADER_BYTES + 5)
    with pytest.raises(FeatureError, match="safetensors: was cut short; delete it, and it is made again"):
        cache.read(features / NAMES[0])


def test_a_cache_that_was_replaced_is_not_taken_for_the_same(features: Path) -> None:
    pickled = pickle.dumps(make(features, NAMES[:2]))
    make(features)
    with pytest.raises(FeatureError, match="was replaced meanwhile; run the command again, with --resume"):
        pickle.loads(pickled)


def test_a_cache_is_never_opened_as_a_link_to_no_file(features: Path) -> None:
    path = make(features).file.path
    path.unlink()
    os.mkfifo(path)
    said: list[str] = []
    assert_equal_to_files(make(features, say=said.append), features)
    assert "not a regular file; it is made again" in said[0]


def test_a_full_disk_and_an_interruption_leave_the_old_cache_and_nothing_else(features: Path) -> None:
    path = make(features, NAMES[:2]).file.path
    before = path.read_bytes()
    with largest_file(2_000), pytest.raises(OutputError, match=r"File too large; raise .*; each video takes 384 bytes"):
        make(features)

    with (
        contextlib.suppress(KeyboardInterrupt),
        feature_cache(path.parent, features, length=T, channels=C, say=print) as builder,
    ):
        builder.examine(features / NAMES[4])
        raise KeyboardInterrupt
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.with_suffix(".lock").name, path.name]


def test_a_folder_that_cannot_be_made_is_named(features: Path) -> None:
    (features.parent / "cache").write_bytes(b"")
    with pytest.raises(OutputError, match=r"--cache-features .*cache: File exists; give another place"):
        make(features)


def make_and_tell(features: Path, folder: str) -> None:
    """Make the cache, or find it made, and write what it has and which file it is."""
    cache = make(features)
    content = b"".join(cache.read(features / name).tobytes() for name in NAMES)
    (Path(folder) / str(os.getpid())).write_bytes(content + str(cache.file.path.stat().st_ino).encode())


def test_processes_that_want_one_cache_at_once_make_it_once(features: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    code = "import sys; from pathlib import Path; from tests.stale_model.data import test_feature_cache as t; "
    code += f"t.{make_and_tell.__name__}(Path(sys.argv[1]), sys.argv[2])"
    command = [sys.executable, "-c", code, str(features), str(results)]
    others = [subprocess.Popen(command, cwd=Path(__file__).parents[3]) for _ in range(3)]
    assert [other.wait(timeout=60) for other in others] == [0, 0, 0]
    (content,) = {path.read_bytes() for path in results.iterdir()}
    assert content.startswith(read_resampled(features / NAMES[0], channels=C, length=T).tobytes())
