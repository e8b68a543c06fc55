import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stale_model import Localization, Stale, TrainingOutputs
from stale_model.network.stale import LOGIT_SCALE, SCORE_FLOOR, foreground_snippets, resample_rows
from tests import tiny

C, T0 = tiny.CHANNELS, tiny.LENGTH
SIZES = [(1, 1, 1), (1, 16, 3), (2, 7, 1), (3, 33, 5), (1, 100, 2)]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def run(network: Stale, B: int = 2, T: int = T0, K: int = 3) -> TrainingOutputs:
    with torch.no_grad():
        outputs: TrainingOutputs = network(draw(B, T, C), network.with_background(draw(K, C, seed=1)))
    return outputs


@pytest.mark.parametrize(("B", "T", "K"), SIZES)
def test_outputs_have_the_shapes_that_they_are_documented_with(B: int, T: int, K: int) -> None:
    shapes = {name: tuple(output.shape) for name, output in run(tiny.make_network(), B, T, K)._asdict().items()}
    assert shapes == {
        "cas_logits": (B, K + 1, T),
        "action_masks": (B, T, T),
        "foreground_logits": (B, T),
        "video_logits": (B, K),
        "snippets": (B, T, C),
    }


@pytest.mark.parametrize(("B", "T", "K"), SIZES)
def test_localize_equals_forward(B: int, T: int, K: int) -> None:
    network = tiny.make_network()
    with torch.no_grad():
        localization = network.localize(draw(B, T, C), network.with_background(draw(K, C, seed=1)))
    outputs = run(network, B, T, K)
    for name in Localization._fields:
        assert torch.equal(getattr(localization, name), getattr(outputs, name)), name


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e3])
def test_scores_stay_in_their_range(scale: float) -> None:
    network = tiny.make_network()
    with torch.no_grad():
        outputs = network(draw(2, T0, C) * scale, network.with_background(draw(3, C, seed=1)))
    for logits in (outputs.cas_logits, outputs.video_logits):
        assert logits.isfinite().all()
        assert logits.abs().max() <= 100 + 1e-4
    assert outputs.action_masks.min() > 0
    assert outputs.action_masks.max() < 1


def test_scores_are_cosines_of_what_the_masking_keeps() -> None:
    network, features = tiny.make_network(), draw(2, T0, C)
    prompts = network.with_background(draw(3, C, seed=1))
    with torch.no_grad():
        outputs = network(features, prompts)
        for b in range(2):
            strength = outputs.action_masks[b].mean(dim=1)
            kept = outputs.snippets[b].clone()
            kept[strength < strength.mean()] = 0
            adapted = network.cross_adaptation(prompts[None], kept[None])[0]
            floored = kept.maximum(torch.tensor(SCORE_FLOOR))
            cas = 100 * nn.functional.cosine_similarity(adapted[:, None], floored[None], dim=2)
            video = 100 * nn.functional.cosine_similarity(adapted[:-1], floored.mean(dim=0)[None], dim=1)
            torch.testing.assert_close(outputs.cas_logits[b], cas, rtol=0, atol=1e-4)
            torch.testing.assert_close(outputs.video_logits[b], video, rtol=0, atol=1e-4)
    assert LOGIT_SCALE == 100


def test_masks_are_two_convolutions() -> None:
    network, snippets = tiny.make_network(), draw(2, T0, C)
    localizer = network.mask_localizer
    with torch.no_grad():
        hidden = nn.functional.conv1d(snippets.mT, localizer.hidden.weight, localizer.hidden.bias, padding=1).relu()
        expected = nn.functional.conv1d(hidden, localizer.kernel[:, :, None]).sigmoid()
        torch.testing.assert_close(localizer(snippets), expected, rtol=0, atol=1e-6)


def test_the_masking_keeps_snippets_of_at_least_mean_strength() -> None:
    masks = torch.tensor([[[0.0, 0.2], [0.5, 0.7]], [[0.4, 0.4], [0.4, 0.4]], [[0.9, 0.9], [0.1, 0.0]]])
    assert foreground_snippets(masks).squeeze(2).tolist() == [[False, True], [True, True], [True, False]]


@settings(deadline=None, max_examples=30)
@given(T=st.sampled_from([1, 2, 4, 8, 16]), seed=st.integers(0, 1000))
def test_the_masking_equals_a_loop(T: int, seed: int) -> None:
    masks = torch.randint(0, 4, (2, T, T), generator=torch.Generator().manual_seed(seed)).float() / 4
    for video, kept in zip(masks, foreground_snippets(masks), strict=True):
        sums = [sum(row) for row in video.tolist()]  # quarters, and T a power of 2: means are exact
        assert kept.flatten().tolist() == [T * row >= sum(sums) for row in sums]
        assert kept.any()


def test_the_cross_adaptation_sees_kept_snippets_as_they_are_and_others_as_zero() -> None:
    network = tiny.make_network()
    seen: list[Tensor] = []
    network.cross_adaptation.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    outputs = run(network)
    kept = foreground_snippets(outputs.action_masks).expand(-1, -1, C)
    assert 0 < kept.float().mean() < 1
    assert torch.equal(seen[0][kept], outputs.snippets[kept])
    assert not seen[0][~kept].any()


def test_the_background_is_the_last_prompt() -> None:
    network, prompts = tiny.make_network(), draw(3, C)
    with torch.no_grad():
        assert torch.equal(network.with_background(prompts)[:3], prompts)
        assert torch.equal(network.with_background(prompts)[3:], network.background_embedding)


def test_a_prompts_scores_do_not_depend_on_the_other_prompts() -> None:
    network, features, prompts = tiny.make_network(), draw(1, T0, C), draw(5, C, seed=1)
    with torch.no_grad():
        together = network.localize(features, network.with_background(prompts)).cas_logits
        alone = network.localize(features, network.with_background(prompts[2:3])).cas_logits
    torch.testing.assert_close(together[:, [2, 5]], alone, rtol=0, atol=1e-4)


def test_different_seeds_give_different_networks() -> None:
    ours, others = (run(tiny.make_network(seed)) for seed in (0, 1))
    for name in TrainingOutputs._fields:
        assert (getattr(ours, name) - getattr(others, name)).abs().max() > 1e-3, name


def test_evaluation_is_deterministic_and_dropout_acts_in_training() -> None:
    network = tiny.make_network()
    for again, first in zip(run(network), run(network), strict=True):
        assert torch.equal(again, first)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network.train()
        for again, first in zip(run(network), run(network), strict=True):
            assert not torch.equal(again, first)


def test_without_dropout_training_computes_what_evaluation_does() -> None:
    network = tiny.make_network()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.MultiheadAttention):
            setattr(module, "p" if isinstance(module, torch.nn.Dropout) else "dropout", 0.0)
    evaluated = run(network)
    for training, expected in zip(run(network.train()), evaluated, strict=True):
        torch.testing.assert_close(training, expected, rtol=0, atol=1e-4)


def without_gradient(network: Stale, outputs: tuple[Tensor, ...]) -> set[str]:
    network.zero_grad()
    sum(((output * draw(*output.shape, seed=9)).sum() for output in outputs), torch.zeros(())).backward()
    return {name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()}


def test_gradients_reach_every_parameter() -> None:
    network = Stale(dataclasses.replace(tiny.CONFIG, foreground_layers=2, foreground_feedforward=32))
    tiny.randomize(network)
    network.eval()
    features, prompts = draw(2, T0, C), draw(3, C, seed=1)
    untouched = without_gradient(network, network(features, network.with_background(prompts)))
    assert untouched == {"foreground.decoder.0.self_attention_norm.weight"}  # which scales zeros


def test_gradients_of_detection_stay_out_of_the_foreground_branch() -> None:
    network = tiny.make_network()
    untouched = without_gradient(network, network.localize(draw(2, T0, C), network.with_background(draw(3, C, seed=1))))
    assert untouched == {f"foreground.{name}" for name, _ in network.foreground.named_parameters()}


@pytest.mark.parametrize("rows", [1, 2, 16, 100])
def test_resampling_to_the_same_length_changes_no_bit(rows: int) -> None:
    kernel = draw(rows, 8)
    assert torch.equal(resample_rows(kernel, rows), kernel)


@pytest.mark.parametrize("rows", [1, 2, 16, 100])
@pytest.mark.parametrize("T", [1, 2, 3, 15, 17, 50, 99, 101, 200, 1000, 4096])
def test_resampling_equals_interpolation_with_half_pixel_centres(rows: int, T: int) -> None:
    kernel = draw(rows, 8).clamp(-3, 3) / 30  # as small as trained ones
    expected = nn.functional.interpolate(kernel.T[None], size=T, mode="linear", align_corners=False)[0].T
    torch.testing.assert_close(resample_rows(kernel, T), expected, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=50)
@given(rows=st.integers(1, 40), T=st.integers(1, 120))
def test_resampling_commutes_with_reversal_and_stays_in_bounds(rows: int, T: int) -> None:
    kernel = draw(rows, 2, seed=rows)
    got = resample_rows(kernel, T)
    torch.testing.assert_close(resample_rows(kernel.flip(0), T), got.flip(0), rtol=0, atol=1e-4)
    assert (got >= kernel.amin(dim=0) - 1e-6).all()
    assert (got <= kernel.amax(dim=0) + 1e-6).all()


def test_masks_at_another_length_are_those_of_the_resampled_kernel() -> None:
    network, snippets = tiny.make_network(), draw(1, 40, C)
    with torch.no_grad():
        masks = network.mask_localizer(snippets)
        network.mask_localizer.kernel = nn.Parameter(resample_rows(network.mask_localizer.kernel, 40))
        assert torch.equal(network.mask_localizer(snippets), masks)
