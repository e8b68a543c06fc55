import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_runtime.inference.prompt_cache import PromptCache, default_cache_folder
from tests.runtime.helpers import make_fifo, no_waiting

WIDTH = 48
VECTOR = np.linspace(-1, 2, WIDTH, dtype=np.float32)
TEXT = "a video of action polo"


@pytest.fixture
def cache(tmp_path: Path) -> PromptCache:
    return PromptCache(tmp_path / "cache", encoder="e" * 64, width=WIDTH)


def put(cache: PromptCache, text: str, vector: NDArray[np.float32]) -> None:
    cache.put([text], vector[None])


def only_file(tmp_path: Path) -> Path:
    (path,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    return path


def same(a: NDArray[np.float32] | None, b: NDArray[np.float32]) -> bool:
    return a is not None and a.dtype == np.float32 and np.array_equal(a, b)


def test_gives_back_what_was_put(cache: PromptCache) -> None:
    assert cache.get(TEXT) is None
    put(cache, TEXT, VECTOR)
    assert same(cache.get(TEXT), VECTOR)
    assert cache.get(TEXT.upper()) is None
    put(cache, TEXT, -VECTOR)
    assert same(cache.get(TEXT), -VECTOR)


def test_another_process_finds_it(cache: PromptCache, tmp_path: Path) -> None:
    put(cache, TEXT, VECTOR)
    assert same(PromptCache(tmp_path / "cache", encoder="e" * 64, width=WIDTH).get(TEXT), VECTOR)


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_folder_that_others_may_write_to_is_not_used(cache: PromptCache, tmp_path: Path, mode: int) -> None:
    put(cache, TEXT, VECTOR)
    assert cache.problem is None
    for folder in (tmp_path / "cache", only_file(tmp_path).parent):
        folder.chmod(mode)
        assert cache.problem == (
            f"prompt cache {folder}: other users may write to it, so it is not used; chmod go-w {folder}"
        )
        assert cache.get(TEXT) is None
        put(cache, "b", VECTOR)
        folder.chmod(0o755)
        assert same(cache.get(TEXT), VECTOR)
        assert cache.get("b") is None


def test_what_another_user_wrote_counts_as_absent(
    cache: PromptCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache, TEXT, VECTOR)
    if os.geteuid() == 0:
        os.chown(only_file(tmp_path), 4242, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
    assert cache.get(TEXT) is None


def test_a_file_that_others_may_write_to_counts_as_absent(cache: PromptCache, tmp_path: Path) -> None:
    put(cache, TEXT, VECTOR)
    only_file(tmp_path).chmod(0o606)
    assert cache.get(TEXT) is None


def test_a_folder_of_another_user_is_not_used(
    cache: PromptCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache, TEXT, VECTOR)
    if os.geteuid() == 0:
        os.chown(tmp_path / "cache", 4242, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
    assert "owns it, so it is not used" in str(cache.problem)
    assert cache.get(TEXT) is None


def test_a_new_folder_is_this_users_alone_whatever_the_umask(cache: PromptCache) -> None:
    before = os.umask(0)
    try:
        put(cache, TEXT, VECTOR)
    finally:
        os.umask(before)
    assert cache.problem is None
    assert same(cache.get(TEXT), VECTOR)


def test_a_vector_that_was_got_can_be_changed(cache: PromptCache) -> None:
    put(cache, TEXT, VECTOR)
    got = cache.get(TEXT)
    assert got is not None
    got += 1
    assert same(cache.get(TEXT), VECTOR)


def test_puts_several_at_once(cache: PromptCache) -> None:
    cache.put([TEXT, "b", "c"], np.stack([VECTOR, 2 * VECTOR, 3 * VECTOR]))
    assert same(cache.get(TEXT), VECTOR)
    assert same(cache.get("b"), 2 * VECTOR)
    assert same(cache.get("c"), 3 * VECTOR)


def test_encoders_and_widths_do_not_mix(cache: PromptCache, tmp_path: Path) -> None:
    put(cache, TEXT, VECTOR)
    assert PromptCache(tmp_path / "cache", encoder="f" * 64, width=WIDTH).get(TEXT) is None
    assert PromptCache(tmp_path / "cache", encoder="e" * 64, width=WIDTH - 1).get(TEXT) is None
    assert PromptCache(tmp_path / "cache", encoder="e" * 64, width=WIDTH + 1).get(TEXT) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_count_as_absent(cache: PromptCache, value: float) -> None:
    put(cache, TEXT, np.full(WIDTH, value, dtype=np.float32))
    assert cache.get(TEXT) is None


def test_a_damaged_file_counts_as_absent(cache: PromptCache, tmp_path: Path) -> None:
    put(cache, TEXT, VECTOR)
    path = only_file(tmp_path)
    good = path.read_bytes()
    flipped = [good[:n] + bytes([good[n] ^ 1]) + good[n + 1 :] for n in range(len(good))]
    for bad in (b"", good[:-1], good + b"\0", good[32:], bytes(len(good)), *flipped):
        path.write_bytes(bad)
        assert cache.get(TEXT) is None
    put(cache, TEXT, VECTOR)
    assert same(cache.get(TEXT), VECTOR)


def test_what_is_no_file_counts_as_absent(cache: PromptCache, tmp_path: Path) -> None:
    put(cache, TEXT, VECTOR)
    path = only_file(tmp_path)
    path.unlink()
    make_fifo(path)
    with no_waiting():
        assert cache.get(TEXT) is None
    path.unlink()
    path.mkdir()
    assert cache.get(TEXT) is None
    put(cache, TEXT, VECTOR)
    assert cache.get(TEXT) is None


def test_a_folder_that_cannot_be_made_is_survived(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = PromptCache(tmp_path / "file" / "cache", encoder="e" * 64, width=WIDTH)
    put(cache, TEXT, VECTOR)
    assert cache.get(TEXT) is None


def test_a_full_disk_is_survived(cache: PromptCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        put(cache, TEXT, VECTOR)
    assert cache.get(TEXT) is None
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_file_names_give_nothing_away_and_stay_inside(cache: PromptCache, tmp_path: Path) -> None:
    put(cache, "../../etc/passwd", VECTOR)
    assert only_file(tmp_path).name.isalnum()


def test_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STALE_CACHE", "/given")
    assert default_cache_folder() == Path("/given")
    monkeypatch.delenv("STALE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert default_cache_folder() == Path("/xdg/stale-edge")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / ".cache" / "stale-edge"
