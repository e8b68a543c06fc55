"""The model of docs/scale.md: its page is current, and its figures follow from its inputs."""

from dataclasses import replace

import pytest

from tests.scale_model import PAGE, Estimate, Inputs, estimates, with_tables


@pytest.fixture
def inputs() -> Inputs:
    """Round figures."""
    return Inputs(
        features_s=0.007,
        clips_s=1,
        features_bytes=200_000,
        clips_bytes=1_000_000,
        jsonl_bytes=4000,
        parquet_bytes=1000,
        start_s=1,
        start_cpu_s=1,
        listed_s=2e-6,
        merged_s=1e-4,
        ray_start_s=10,
        ray_s=0.001,
    )


def test_the_page_is_what_the_model_says() -> None:
    text = PAGE.read_text()
    assert with_tables(text, Inputs.read()) == text, "run python -m tests.scale_model"
    assert text.count("<!-- made by") == 4
    assert with_tables(text, replace(Inputs.read(), features_s=1)) != text


def test_a_million_clips_take_what_a_clip_takes_times_a_million(inputs: Inputs) -> None:
    one = Estimate(inputs=inputs, kind="clips", videos=10**6, cores=50)
    assert one.work_hours == pytest.approx(1.003e6 / 3600)
    assert one.shards == 200
    assert one.start_hours == pytest.approx(200 / 3600)
    assert one.ends == pytest.approx((1.003e6 + 200) / 3600 * 0.05)
    assert one.resumed_hours == pytest.approx(one.ends * 5.012 / 3600)  # a start, and four videos of eight in hand
    assert one.repeated_hours == pytest.approx(one.ends * (1 + 2507.5) / 3600)  # half of 5,000 videos
    assert one.hours["computing"] == pytest.approx(one.core_hours / 50)
    assert one.bottleneck == "computing"
    assert one.ray_share == pytest.approx((10**6 * 0.001 + 50 * 10) / 3600 / one.core_hours)


def test_shards_are_as_small_as_a_run_needs_and_no_more_than_there_are_videos(inputs: Inputs) -> None:
    shards = [
        Estimate(inputs=inputs, kind="features", videos=videos, cores=cores).shards
        for videos, cores in ((10**9, 10), (3, 64), (10**6, 64))
    ]
    assert shards == [10_000, 3, 256]


def test_what_is_slowest_is_the_bottleneck(inputs: Inputs) -> None:
    one = Estimate(inputs=replace(inputs, requests_per_s=100), kind="features", videos=10**6, cores=64)
    assert one.bottleneck == "files of one prefix"
    assert one.hours["lists for each shard"] == pytest.approx(256 * 1000 / 100 / 3600)
    assert one.hours[one.bottleneck] == pytest.approx(10**6 * 1.001 / 100 / 3600)
    assert one.cores_for_a_prefix == pytest.approx(1)
    slow = Estimate(inputs=replace(inputs, latency_s=10), kind="features", videos=10**6, cores=64)
    assert slow.bottleneck == "waiting for answers"
    far = Estimate(inputs=replace(inputs, machine_bytes_per_s=1e6), kind="features", videos=10**6, cores=64)
    assert far.bottleneck == "transfer"
    assert far.hours["transfer"] == pytest.approx(2e11 / 2e6 / 3600)


def test_what_was_not_measured_is_not_made_up(inputs: Inputs) -> None:
    unknown = replace(inputs, ray_s=None)
    assert Estimate(inputs=unknown, kind="clips", videos=10**6, cores=50).ray_share is None
    assert "not measured" in with_tables("<!-- made by tests/scale_model.py: work -->\n<!-- end -->", unknown)


def test_the_page_shows_each_kind_at_three_sizes(inputs: Inputs) -> None:
    assert [(one.kind, one.videos) for one in estimates(inputs)] == [
        (kind, videos) for kind in ("features", "clips") for videos in (10**4, 10**6, 10**9)
    ]
