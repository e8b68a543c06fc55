"""Running a localizer graph on one video during the export."""

from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from stale_runtime.bundle import layout
from stale_runtime.inference.forward_pass import EncodedPrompts, GraphCall, MaskRows, Outputs, make_inputs, read_outputs

Features = NDArray[np.float32]
"""(S, C) snippet features of one video."""


def localize_video(
    session: onnxruntime.InferenceSession,
    features: Features,
    prompts: EncodedPrompts,
    *,
    length: int | None = None,
    mask_nodes: int | None = None,
) -> Outputs:
    """What a localizer graph says of a video; arguments as for ``run_on_video``."""
    names = layout.LOCALIZER_OUTPUTS
    found = run_on_video(session, features, prompts, names, length=length, mask_nodes=mask_nodes)
    return read_outputs({name: output[None] for name, output in zip(names, found, strict=True)})[0]


def run_on_video(
    session: onnxruntime.InferenceSession,
    features: Features,
    prompts: EncodedPrompts,
    outputs: Sequence[str],
    *,
    length: int | None = None,
    mask_nodes: int | None = None,
) -> list[NDArray[np.float32]]:
    """Run a localizer graph on one video.

    Args:
        session: the loaded graph.
        features: (S, C)
        prompts: K encoded prompts.
        outputs: names of the outputs to compute.
        length: T that the graph resamples the features to; None for S.
        mask_nodes: as in ``interpolate_masks``.

    Returns:
        The outputs in that order, without the batch axis.
    """
    inputs = {value.name: value.shape for value in session.get_inputs()}
    rows = MaskRows(inputs[layout.MASK_ROWS][1], mask_nodes)
    call = GraphCall(features[None], length or len(features), prompts)  # (1, S, C)
    return [batch[0] for batch in session.run(outputs, make_inputs(list(inputs), call, rows))]
