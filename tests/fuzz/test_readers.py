"""A short run of the fuzzing that ``make fuzz`` does for hours."""

import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.child import seeded_inputs
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS, find_target
from tests.fuzz.watch import Watch

INPUTS = {"checkpoint": 100, "bundle": 100, "clip": 100, "prompts-archive": 60, "self-test-archive": 60, "video": 60}
"""Fewer inputs for readers that take milliseconds for each; the others get 300."""
EXAMPLES = int(os.environ.get("STALE_FUZZ_EXAMPLES", "15"))


@pytest.fixture(scope="module", params=TARGETS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def target(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUST_BACKTRACE", "0")  # else each panic of the tokenizer prints a long backtrace
        yield find_target(name)(tmp_path_factory.mktemp("fuzz"))


def test_changed_inputs_end_in_a_result_or_one_of_our_errors(name: str, target: Target, tmp_path: Path) -> None:
    watch = Watch(target.run, tmp_path, slowest_s=math.inf)
    for data in itertools.islice(seeded_inputs(target, name, seed=0), INPUTS.get(name, 300)):
        watch.feed(data)
    assert watch.tally.findings == {}
    assert watch.tally.results > 0
    assert watch.tally.refused > 0


def test_drawn_inputs_end_in_a_result_or_one_of_our_errors(target: Target, tmp_path: Path) -> None:
    watch = Watch(target.run, tmp_path, slowest_s=math.inf)

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES < 100, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(target.seeds), st.randoms(use_true_random=False), st.integers(1, 6))
    def draw(data: bytes, dice: Random, changes: int) -> None:
        for _ in range(changes):
            data = target.mutate(data, dice)
        assert watch.feed(data) is None

    draw()
    assert watch.tally.inputs > 0
