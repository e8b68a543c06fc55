from dataclasses import replace

import numpy as np

from stale_model.demo.drawing.camera import Camera
from stale_model.demo.drawing.scene import Scene

SCENE = replace(Scene.draw(7, "fence"), grain=0.0, shake=0.0, has_passer=False, gain=1.0, offset=0.0)


def film(scene: Scene, *, time_s: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return Camera(scene, height=60).film("nobody", time_s=time_s, since_s=0.0, rng=rng).astype(np.int64)


def test_a_scene_is_decided_by_its_seed() -> None:
    assert Scene.draw(5, "dog") == Scene.draw(5, "dog") != Scene.draw(6, "dog")
    np.testing.assert_array_equal(film(Scene.draw(5, "dog"), time_s=1), film(Scene.draw(5, "dog"), time_s=1))


def test_the_camera_pans_the_place_and_the_thing_together() -> None:
    standing, reach = replace(SCENE, pan=(0.0, 1.0, 0.0)), 0.05
    panned = replace(SCENE, pan=(reach, 1.0, np.pi / 2))  # at time 0, as far to the right as it goes
    before, after = film(standing, time_s=0), film(panned, time_s=0)
    pixels = round(reach * 60)
    differing = (np.abs(before[:, : -pixels - 1] - after[:, pixels:-1]).max(axis=2) > 40).mean()
    unmoved = (np.abs(before - after).max(axis=2) > 40).mean()
    assert differing < 0.25 * unmoved


def test_light_and_noise_change_every_picture() -> None:
    plain = film(SCENE, time_s=2)
    darker = film(replace(SCENE, gain=0.8, offset=-10.0), time_s=2)
    assert np.abs(darker - np.clip(0.8 * plain - 10, 0, 255)).max() <= 1
    noisy = replace(SCENE, grain=5.0)
    first, second = film(noisy, time_s=2, seed=1), film(noisy, time_s=2, seed=2)
    assert (first != second).mean() > 0.5
    unclipped = (plain > 20) & (plain < 235)
    assert 4 < (first - plain)[unclipped].std() < 6
