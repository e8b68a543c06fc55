"""A bundle of the published size with random weights."""

from pathlib import Path

import numpy as np

from stale_export import export_bundle
from stale_export.int8_options import Int8Options
from stale_model import read_original_checkpoint
from stale_runtime import Prompts
from tests import tiny
from tests.gpu import made_up

NAMES = ("long jump", "archery", "polo", "painting a dog", "washing a car", "juggling", "rowing", "diving")
LENGTH = 100
"""T, in snippets."""
CALIBRATION_VIDEOS, VIDEOS, SNIPPETS = 8, 3, 120


def write_drawn_subject(folder: Path) -> None:
    """Write ``bundle`` with every graph, ``features`` and ``classes.txt`` into an empty folder."""
    network = made_up.make_network(LENGTH)
    C = network.config.channels
    clip = tiny.write_clip_folder(folder / "clip", channels=C)
    checkpoint = tiny.save_checkpoint(folder / "best.pth", tiny.upstream_state(network, tiny.make_tower(clip)))
    common = made_up.make_features(1, SNIPPETS, C, seed=1)  # (1, T, C)
    videos = (common + made_up.make_features(CALIBRATION_VIDEOS + VIDEOS, SNIPPETS, C)).numpy()  # (B, T, C)
    for part, some in (("calibration", videos[:CALIBRATION_VIDEOS]), ("features", videos[CALIBRATION_VIDEOS:])):
        (folder / part).mkdir()
        for n, video in enumerate(some):
            np.save(folder / part / f"v_{n}.npy", video)
    (folder / "classes.txt").write_text("\n".join(NAMES) + "\n")
    int8 = Int8Options(calibration=str(folder / "calibration"))
    trained = read_original_checkpoint(checkpoint, str(clip))
    export_bundle(trained, Prompts.of(NAMES), folder / "bundle", int8=int8, say=lambda _: None)
