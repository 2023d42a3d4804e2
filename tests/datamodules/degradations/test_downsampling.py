"""Bicubic downsampling."""

import numpy as np
import pytest

from datamodules.degradations.downsampling import BicubicDownsampling
from datamodules.degradations.imresize import imresize


def test_downsampling_is_imresize_clipped(rng):
    image = (rng.random((12, 18, 3)) > 0.5).astype(np.float32)
    shrunk = BicubicDownsampling(3).apply(image, rng)
    np.testing.assert_array_equal(shrunk, np.clip(imresize(image, 1 / 3), 0, 1))


def test_downsampling_needs_whole_multiples(rng):
    with pytest.raises(ValueError, match=r"sides of the image \(10×12\) must be multiples of scale \(3\)"):
        BicubicDownsampling(3).apply(np.zeros((10, 12, 3), np.float32), rng)
