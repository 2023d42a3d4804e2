"""Promises of every degradation."""

import math

import numpy as np
import pytest

from datamodules.degradations.base import Chain
from datamodules.degradations.blur import MotionBlur
from datamodules.degradations.downsampling import BicubicDownsampling
from datamodules.degradations.imresize import imresize
from datamodules.degradations.noise import GaussianNoise, ShotNoise
from datamodules.degradations.rain import Rain

ALL = [Rain(), GaussianNoise(), ShotNoise(), MotionBlur(), BicubicDownsampling(2), Chain((Rain(), GaussianNoise()))]


@pytest.mark.parametrize("degradation", ALL, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("channels", [1, 3])
def test_result_is_an_image_decided_by_the_generator(degradation, channels):
    image = np.random.default_rng(9).random((32, 48, channels), np.float32)
    before = image.copy()
    one, two = (degradation.apply(image, np.random.default_rng(5)) for _ in range(2))
    assert one.dtype == np.float32
    assert one.shape == (32 // degradation.scale, 48 // degradation.scale, channels)
    assert one.min() >= 0
    assert one.max() <= 1
    assert np.abs(one - imresize(image, 1 / degradation.scale)).max() > 0.005 or isinstance(
        degradation, BicubicDownsampling
    )
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(image, before)
    if not isinstance(degradation, BicubicDownsampling):
        assert not np.array_equal(one, degradation.apply(image, np.random.default_rng(6)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rain(angle=(-100, 0)), r"angle \(\(-100, 0\)\) must be a range"),
        (lambda: Rain(length=(0, 5)), "length"),
        (lambda: Rain(width=(0, 5)), "width"),
        (lambda: Rain(density=(-1, 5)), "density"),
        (lambda: Rain(brightness=(0.5, 1.1)), "brightness"),
        (lambda: Rain(layers=0), r"layers \(0\) must lie in \[1, 100\]"),
        (lambda: Rain(haze=(0.5, 0.2)), "haze .* low ≤ high"),
        (lambda: Rain(airlight=(0.1, 0.2, 0.3)), "airlight"),
        (lambda: Rain(depth_scale=0), "depth_scale"),
        (lambda: GaussianNoise((-1, 5)), "sigma"),
        (lambda: GaussianNoise((0, math.inf)), "sigma"),
        (lambda: ShotNoise((0, 5)), "photons"),
        (lambda: MotionBlur(length=(-1, 5)), "length"),
        (lambda: MotionBlur(angle=(-1, math.nan)), "angle"),
        (lambda: BicubicDownsampling(0), "scale"),
    ],
)
def test_ranges_are_validated(make, message):
    with pytest.raises(ValueError, match=message):
        make()
