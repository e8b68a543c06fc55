"""mAP of a network during training, computed by the decoder and the evaluation of the runtime."""

from collections.abc import Callable, Iterable, Sequence

import torch

from stale_model.checkpoints.own_checkpoint import StaleWithText
from stale_model.data.dataset import VideoSample
from stale_model.data.feature_cache import FeatureCache, read_resampled
from stale_runtime.decoding.action_masks import FullMasks
from stale_runtime.decoding.decoders import DEFAULT_DECODER, decode_detections
from stale_runtime.evaluation.ground_truth import AnnotatedVideo, GroundTruth
from stale_runtime.evaluation.mean_average_precision import mean_average_precision

Watch = Callable[[Sequence[VideoSample]], Iterable[VideoSample]]


def validate(
    model: StaleWithText,
    samples: Sequence[VideoSample],
    classes: Sequence[str],
    token_ids: torch.Tensor,
    length: int,
    *,
    cache: FeatureCache | None = None,
    watch: Watch = iter,
) -> float:
    """Average mAP over tIoU 0.5:0.05:0.95 on annotated videos, in [0, 1], as stale-eval's default.

    Args:
        model: network and text tower, on any device; it is put into evaluation mode.
        samples: the videos, in the order of the annotations.
        classes: K class names.
        token_ids: (K, L) of their prompts.
        length: T, in snippets.
        cache: one that has all the videos; None to read their files.
        watch: yields the videos that it gets, and can show progress, because one is computed after each.
    """
    model.eval()
    device = next(model.parameters()).device
    found = {}
    with torch.no_grad():
        prompts = model.network.with_background(model.tower(token_ids.to(device)))
        for sample in watch(sorted(samples, key=_file_name)):
            features = read_resampled(sample.path, channels=prompts.shape[1], length=length, cache=cache)  # (T, C)
            localization = model.network.localize(torch.from_numpy(features)[None].to(device), prompts)
            cas_logits, masks = (output[0].float().cpu().numpy() for output in localization)  # (K+1, T), (T, T)
            found[sample.video] = decode_detections(
                DEFAULT_DECODER, cas_logits, FullMasks(masks), classes, sample.duration_s
            )
    truth = {
        sample.video: AnnotatedVideo(duration_s=sample.duration_s, annotations=sample.annotations) for sample in samples
    }
    return mean_average_precision(found, GroundTruth(videos=truth)).average


def _file_name(sample: VideoSample) -> str:
    """Detections are in this order in stale-run's results; if scores are equal, it decides which counts first."""
    return sample.path.name
