import numpy as np

from stale_export.drawn_images import draw_images


def test_images_are_the_same_each_time_and_all_different() -> None:
    images = draw_images(4, 48)
    assert images.dtype == np.uint8
    assert images.shape == (4, 48, 48, 3)
    np.testing.assert_array_equal(draw_images(2, 48), images[:2])
    assert len(np.unique(images.reshape(4, -1), axis=0)) == 4
    assert not np.array_equal(draw_images(1, 48, seed=1), images[:1])


def test_neighbouring_pixels_are_alike_as_in_photographs() -> None:
    for image in draw_images(4, 96).astype(float):
        beside = np.corrcoef(image[:, 1:].ravel(), image[:, :-1].ravel())[0, 1]
        assert beside > 0.6
        assert image.std() > 15
