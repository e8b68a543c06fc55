"""Dividing the videos of a run among many machines."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_runtime.inputs.shards import MOST_SHARDS, Listing, Shard, shard_index

_IDS = st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), max_size=20)


@given(_IDS, st.integers(1, 50))
def test_each_video_belongs_to_one_shard(videos: set[str], count: int) -> None:
    shards = [Shard(index=index, count=count) for index in range(count)]
    assert all([shard.has(video) for shard in shards].count(True) == 1 for video in videos)


@pytest.mark.parametrize(
    ("video", "of_64", "of_1000"),
    [("QOlSCBRmfWY", 46, 782), ("video_test_0000004", 43, 587), ("zürich 1", 42, 370), ("日本", 11, 331)],
)
def test_a_video_stays_in_its_shard_for_ever(video: str, of_64: int, of_1000: int) -> None:
    """An interrupted job may go on with a later version."""
    assert (shard_index(video, 64), shard_index(video, 1000)) == (of_64, of_1000)


def test_shards_are_of_about_equal_size() -> None:
    sizes = [sum(Shard(index=index, count=8).has(f"video {n}") for n in range(4000)) for index in range(8)]
    assert min(sizes) > 425
    assert max(sizes) < 575


@given(st.integers(1, MOST_SHARDS).flatmap(lambda count: st.tuples(st.integers(0, count - 1), st.just(count))))
def test_a_shard_is_read_as_it_is_written(numbers: tuple[int, int]) -> None:
    shard = Shard(index=numbers[0], count=numbers[1])
    assert Shard.parse(str(shard)) == shard


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("3/3", "shard 3 of 3, but they count from 0: expected 0 to 2"),
        ("0/0", "0 shards, expected 1 to 100,000"),
        ("0/100001", "100001 shards, expected 1 to 100,000"),
        ("-1/3", "expected I/N"),
        ("1", "expected I/N"),
        ("1/2/3", "expected I/N"),
        ("٣/٤", "expected I/N"),
        ("0/" + "9" * 5000, "expected I/N"),
    ],
)
def test_what_is_no_shard_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        Shard.parse(text)


@given(_IDS.map(sorted))
def test_a_listing_depends_on_the_ids_and_not_on_their_order(videos: list[str]) -> None:
    assert Listing.of(videos) == Listing.of(reversed(videos))
    assert Listing.of([*videos, "one more than twelve characters"]) != Listing.of(videos)


def test_listings_that_differ_in_where_ids_end_differ() -> None:
    assert Listing.of(["ab", "c"]) != Listing.of(["a", "bc"])
