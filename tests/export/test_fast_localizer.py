import numpy as np
import pytest
import torch

from stale_export.expansion import Directions
from stale_export.fast_localizer import fast_model, fast_schemes, fast_spec
from stale_export.folding import FoldedAttention
from stale_export.graph_builder import serialize
from stale_export.schemes import StaticScheme
from stale_runtime.bundle import layout
from stale_runtime.decoding.action_masks import all_rows
from stale_runtime.inference.video_landmarks import spaced_snippets
from tests import tiny
from tests.export.approximation import (
    Array,
    draw_calm_videos,
    encode,
    exact_session,
    fast_bytes,
    load,
    run,
    sharpened,
)
from tests.export.graphs import assert_whole_and_anonymous, declared, interface

C = tiny.CHANNELS


def rms(ours: Array, theirs: Array) -> float:
    return float(np.sqrt(np.mean(np.square(ours - theirs))))


def error(directions: int, videos: list[Array], factor: float = 1.0) -> float:
    """Root mean square error of the class activations of an approximation."""
    network = sharpened(factor)
    prompts, batch = encode(network), np.stack(videos)
    ours, _ = run(load(fast_bytes(network, directions, videos)), batch, prompts)
    theirs, _ = run(exact_session(network), batch, prompts)
    return max(rms(a.cas_logits, b.cas_logits) for a, b in zip(ours, theirs, strict=True))


def test_the_graph_is_what_its_specification_says() -> None:
    network = tiny.make_network()
    model = fast_bytes(network, 2)
    assert interface(model) == declared(fast_spec(network))
    assert_whole_and_anonymous(model)


@pytest.mark.parametrize("T", [16, 40])
def test_a_calm_video_is_nearly_exact_in_every_output(T: int) -> None:
    network = tiny.make_network()
    prompts, batch = encode(network), np.stack(draw_calm_videos(2, T, deviation=0.02))
    ours, deviations = run(load(fast_bytes(network, 0)), batch, prompts)
    theirs, _ = run(exact_session(network), batch, prompts)
    for mine, exact in zip(ours, theirs, strict=True):
        assert rms(mine.cas_logits, exact.cas_logits) < 0.02
        assert (mine.masks.kept == exact.masks.kept).all()
        assert rms(mine.masks.kept_mask, exact.masks.kept_mask) < 1e-4
        assert rms(all_rows(mine.masks), all_rows(exact.masks)) < 1e-4
    assert (deviations < 0.01).all()


def test_a_video_of_equal_snippets_is_exact() -> None:
    network = tiny.make_network()
    prompts, batch = encode(network), np.repeat(draw_calm_videos(1, 1)[0][None], 30, axis=1)
    (ours,), (deviation,) = run(load(fast_bytes(network, 2)), batch, prompts)
    (theirs,), _ = run(exact_session(network), batch, prompts)
    np.testing.assert_allclose(ours.cas_logits, theirs.cas_logits, atol=1e-3)
    assert deviation < 1e-4


def test_where_nothing_is_discarded_prompts_attend_to_the_kept_snippets_alone() -> None:
    network = tiny.make_network()
    with torch.no_grad():
        network.mask_localizer.kernel.zero_()  # all masks are equal
    prompts, batch = encode(network), np.stack(draw_calm_videos(1, 30, deviation=0.02))
    (ours,), _ = run(load(fast_bytes(network, 0)), batch, prompts)
    (theirs,), _ = run(exact_session(network), batch, prompts)
    assert ours.masks.kept.all()
    assert rms(ours.cas_logits, theirs.cas_logits) < 0.02


def test_one_prompt_is_exact_apart_from_the_snippets() -> None:
    network = tiny.make_network()
    prompts, batch = encode(network, 1), np.stack(draw_calm_videos(1, 40, deviation=0.02))
    (ours,), _ = run(load(fast_bytes(network, C)), batch, prompts)
    (theirs,), _ = run(exact_session(network), batch, prompts)
    np.testing.assert_allclose(ours.cas_logits, theirs.cas_logits, atol=5e-3)


def test_the_error_shrinks_with_the_square_of_the_deviation() -> None:
    small, large = (error(C, draw_calm_videos(3, 60, deviation=size), 2.0) for size in (0.05, 0.1))
    assert small < large / 3


def test_more_directions_are_more_exact_where_attention_is_sharp() -> None:
    network, videos = sharpened(3.0), draw_calm_videos(3, 60, deviation=0.1)
    prompts, batch = encode(network), np.stack(videos)
    none, some, most = (run(load(fast_bytes(network, r, videos)), batch, prompts)[1].max() for r in (0, 4, C))
    assert most < some < none


def test_where_each_snippet_is_a_landmark_no_direction_is_missed_much() -> None:
    network, videos = sharpened(3.0), draw_calm_videos(3, layout.SHORTEST, deviation=0.1)
    prompts, batch = encode(network), np.stack(videos)
    landmarks, directions = (run(load(fast_bytes(network, r, videos)), batch, prompts)[1].max() for r in (0, C))
    assert landmarks < 3 * directions


def test_an_outlier_raises_the_deviation() -> None:
    network = sharpened(3.0)
    calm = draw_calm_videos(1, 50)[0]
    outlier = calm.copy()
    outlier[21] *= -6  # between the evenly spaced snippets of the guard
    assert 21 not in spaced_snippets(50)
    _, (usual, unusual) = run(load(fast_bytes(network, 4)), np.stack([calm, outlier]), encode(network))
    assert unusual > 10 * usual


def test_short_features_raise_the_deviation_since_normalization_enlarges_what_rounding_did() -> None:
    network = tiny.make_network()
    videos = draw_calm_videos(4, 40)
    calm = np.repeat(videos[0][:1], 40, axis=0)  # exact and approximate attention do not differ
    expansion = Directions(FoldedAttention.of(network.snippet_embedding), videos).expansion(0)
    schemes = fast_schemes(network.config.heads, StaticScheme.over(-4, 4, 7))
    batch = np.stack([calm, 0.01 * calm])
    _, (usual, short) = run(load(serialize(fast_model(network, expansion, schemes))), batch, encode(network))
    assert short > 5 * usual > 0
    _, (usual, short) = run(load(serialize(fast_model(network, expansion))), batch, encode(network))
    assert max(usual, short) < 1e-4  # nothing is rounded


def test_videos_of_a_batch_do_not_depend_on_each_other() -> None:
    network = tiny.make_network()
    prompts, session = encode(network), load(fast_bytes(network, 2))
    videos = np.stack([*draw_calm_videos(2, 30), 20 * draw_calm_videos(1, 30, seed=9, deviation=2)[0]])
    together, deviations = run(session, videos, prompts)
    for n, video in enumerate(videos):
        (alone,), (deviation,) = run(session, video[None], prompts)
        np.testing.assert_allclose(alone.cas_logits, together[n].cas_logits, atol=1e-4)
        np.testing.assert_allclose(deviation, deviations[n], rtol=1e-4)


def test_features_of_any_size_are_rounded_well() -> None:
    """Bytes of rows are scaled row by row, so that no input saturates them."""
    network = tiny.make_network()
    videos, prompts = draw_calm_videos(4, 40, deviation=0.1), encode(network)
    expansion = Directions(FoldedAttention.of(network.snippet_embedding), videos).expansion(0)
    schemes = fast_schemes(network.config.heads, StaticScheme.over(-4, 4, 8))
    rounded = load(serialize(fast_model(network, expansion, {k: v for k, v in schemes.items() if k != "masks.hidden"})))
    exact = load(serialize(fast_model(network, expansion)))
    for factor in (0.1, 1, 3):
        batch = factor * draw_calm_videos(1, 40, seed=5, deviation=0.1)[0][None]
        (ours,), _ = run(rounded, batch, prompts)
        (theirs,), _ = run(exact, batch, prompts)
        alike = ours.masks.kept == theirs.masks.kept
        assert rms(ours.cas_logits[:, alike], theirs.cas_logits[:, alike]) < 0.5


def test_a_perturbed_weight_is_seen() -> None:
    network, other = tiny.make_network(), tiny.make_network()
    with torch.no_grad():
        other.snippet_embedding.output.weight[0, 0] += 3
    prompts, batch = encode(network), np.stack(draw_calm_videos(1, 30))
    (ours,), _ = run(load(fast_bytes(other, 0)), batch, prompts)
    (theirs,), _ = run(exact_session(network), batch, prompts)
    assert rms(ours.cas_logits, theirs.cas_logits) > 0.05


def test_odd_prompts_are_close_as_well() -> None:
    network = tiny.make_network()
    usual = encode(network, 4)
    batch = np.stack(draw_calm_videos(2, 40, deviation=0.1))
    for scale in (1.0, -1.0):
        scales = np.array([[1], [1], [1], [scale]], np.float32)
        prompts = usual._replace(queries=usual.queries * scales)
        ours, _ = run(load(fast_bytes(network, C)), batch, prompts)
        theirs, _ = run(exact_session(network), batch, prompts)
        for mine, exact in zip(ours, theirs, strict=True):
            assert rms(mine.cas_logits, exact.cas_logits) < 0.5
