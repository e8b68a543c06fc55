"""The training loss of STALE, term by term."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from stale_model.data.targets import Targets
from stale_model.network.stale import TrainingOutputs
from stale_model.training.training_config import LossWeights

SNIPPET_SHARE = 0.9
"""Weight of the snippets' classification; the video's has weight 1."""
ENTROPY_SHARE, DICE_SHARE = 0.4, 0.6
"""The two halves of the mask loss."""
SCORED_ROWS = 200
"""Of the class logits, as many rows decide which snippets the consistency loss compares: ActivityNet's classes."""
_TINY = 1e-6


class Losses(NamedTuple):
    """The terms of the loss, before they are weighted."""

    total: Tensor
    """Weighted sum, the one to minimise."""
    classification: Tensor
    masks: Tensor
    foreground: Tensor
    consistency: Tensor


def stale_loss(outputs: TrainingOutputs, targets: Targets, weights: LossWeights) -> Losses:
    """The loss of a batch.

    Args:
        outputs: outputs of the network.
        targets: targets of the same videos.
        weights: weights of the terms.

    Source: ``stale_lib/loss_stale.py`` of the published training code (``stale_loss``), with its peculiarities,
    because they affect the trained weights. Two things differ from it. The foreground's entropy is computed from
    logits, so that it stays exact where the published code's probability rounds to 0 or 1. And the published code
    computes the consistency at T=100 only and adds nothing at other lengths; here it is computed at every length.
    """
    classification = SNIPPET_SHARE * focal_on_mean(outputs.cas_logits.transpose(1, 2), targets.snippet_classes)
    classification = classification + focal_on_mean(outputs.video_logits, targets.video_classes.argmax(dim=1))
    masks = ENTROPY_SHARE * balanced_entropy(outputs.action_masks, targets.action_masks)
    masks = masks + DICE_SHARE * dice_loss(outputs.action_masks, targets.action_masks)
    foreground = functional.binary_cross_entropy_with_logits(outputs.foreground_logits.float(), targets.foreground)
    consistency = consistency_loss(outputs)
    total = (
        weights.classification * classification
        + weights.masks * masks
        + weights.foreground * foreground
        + weights.consistency * consistency
    )
    return Losses(total, classification, masks, foreground, consistency)


def focal_on_mean(logits: Tensor, classes: Tensor) -> Tensor:
    """Focal loss of the batch's mean cross-entropy; usually it is computed for each sample and then averaged.

    Args:
        logits: (..., K)
        classes: (...) of int64.
    """
    entropy = functional.cross_entropy(logits.float().flatten(0, -2), classes.flatten())
    return (1 - torch.exp(-entropy)) ** 2 * entropy


def balanced_entropy(masks: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of masks, weighted by how many positions are on in the whole batch.

    Args:
        masks: (B, T, T) in (0, 1).
        targets: (B, T, T) of 0 and 1.
    """
    masks = masks.float()
    positives = 10 + targets.sum()
    count = 10 + positives + (1 - targets).sum()
    ratio = count / positives
    on = 0.5 * ratio * targets * torch.log(masks + _TINY)
    off = 0.5 * ratio / (ratio - 1) * (1 - targets) * torch.log(1 - masks + _TINY)
    return -(on + off).sum() / count


def dice_loss(masks: Tensor, targets: Tensor) -> Tensor:
    """One minus the dice overlap, the mean over videos: (B, T, T), (B, T, T) -> ()."""
    masks = masks.float()
    shared = (masks * targets).sum(dim=(1, 2))
    both = (masks**2 + targets**2).sum(dim=(1, 2))
    return (1 - (shared + 1) / (both + 1)).mean()


def consistency_loss(outputs: TrainingOutputs) -> Tensor:
    """Distance between the snippets that the classes select and those that the masks select: mean of 1 - cosine.

    The classes select by the highest probability among the first 200 rows of the logits, whatever K is. With fewer
    than 200 classes the background is among these rows, with 200 it is not, and of more classes only the first 200
    are. Only the snippets get a gradient.

    Source: ``redundancy_loss`` of the published training code. It fails if only one snippet of a video is selected,
    and gives NaN if rounding lifts the mean of equal scores above them; here the one counts, and all of them do.
    """
    snippets = outputs.snippets.float()
    class_scores = outputs.cas_logits[:, :SCORED_ROWS].float().softmax(dim=1).amax(dim=1)  # (B, T)
    mask_scores = outputs.action_masks.amax(dim=2).float()  # (B, T)
    by_class, by_mask = (_mean_of_upper(snippets, scores) for scores in (class_scores, mask_scores))
    return (1 - functional.cosine_similarity(by_class, by_mask, dim=1, eps=_TINY)).mean()


def _mean_of_upper(snippets: Tensor, scores: Tensor) -> Tensor:
    """Mean of the snippets whose score is at least the video's mean: (B, T, C), (B, T) -> (B, C)."""
    least = torch.minimum(scores.mean(dim=1), scores.amax(dim=1))  # a mean of equal numbers may round to above them
    chosen = (scores >= least[:, None]).to(snippets.dtype)[:, :, None]
    return (snippets * chosen).sum(dim=1) / chosen.sum(dim=1)
