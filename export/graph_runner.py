"""Running a localizer graph on one video during the export."""

from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from stale_runtime.bundle import layout
from stale_runtime.inference.forward_pass import EncodedPrompts

Features = NDArray[np.float32]
"""(S, C) snippet features of one video."""


def run_on_video(
    session: onnxruntime.InferenceSession,
    features: Features,
    prompts: EncodedPrompts,
    outputs: Sequence[str] = layout.LOCALIZER_OUTPUTS,
    *,
    length: int | None = None,
) -> list[NDArray[np.float32]]:
    """Run a localizer graph on one video.

    Args:
        session: the loaded graph.
        features: (S, C)
        prompts: K encoded prompts.
        outputs: names of the outputs to compute.
        length: T that the graph resamples the features to; None for S.

    Returns:
        The outputs in that order, without the batch axis: for ``layout.LOCALIZER_OUTPUTS`` class activations
        (K+1, T) and action masks (T, T).
    """
    inputs = layout.localizer_inputs(features[None], length or len(features), prompts.embeddings, prompts.queries)
    return [batch[0] for batch in session.run(outputs, inputs)]
