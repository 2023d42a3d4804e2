"""Downsampling: bicubic, and blurred and sampled."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from datamodules.degradations.downsampling import BicubicDownsampling, BlurDownsampling
from datamodules.degradations.imresize import imresize


def test_downsampling_is_imresize_clipped(rng):
    image = (rng.random((12, 18, 3)) > 0.5).astype(np.float32)
    shrunk = BicubicDownsampling(3).apply(image, rng)
    np.testing.assert_array_equal(shrunk, np.clip(imresize(image, 1 / 3), 0, 1))


def test_downsampling_needs_whole_multiples(rng):
    with pytest.raises(ValueError, match=r"sides of the image \(10×12\) must be multiples of scale \(3\)"):
        BicubicDownsampling(3).apply(np.zeros((10, 12, 3), np.float32), rng)


@pytest.mark.parametrize(("scale", "sigma"), [(4, 1.6), (2, 0.8), (3, 1.2)])
def test_blurred_and_sampled_is_scipys_gaussian_at_every_so_manyth_pixel(scale, sigma):
    image = np.random.default_rng(0).random((24, 36, 3), np.float32)
    expected = gaussian_filter(image.astype(np.float64), (sigma, sigma, 0), mode="mirror", truncate=4)
    small = BlurDownsampling(scale, sigma).apply(image, np.random.default_rng(0))
    np.testing.assert_allclose(small, expected[::scale, ::scale], atol=1e-6)
    rounded = BlurDownsampling(scale, sigma, eight_bit=True).apply(image, np.random.default_rng(0))
    np.testing.assert_allclose(255 * rounded, np.rint(255 * small), atol=1e-4)


def test_sides_that_are_no_multiples_are_refused_for_blurring():
    with pytest.raises(ValueError, match="multiples of scale"):
        BlurDownsampling(4).apply(np.zeros((6, 8, 3), np.float32), np.random.default_rng(0))


@pytest.mark.parametrize("options", [{"scale": 0}, {"sigma": 0.0}])
def test_options_of_blurring_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        BlurDownsampling(**options)
