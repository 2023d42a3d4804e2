"""Blur of motion."""

import math

import numpy as np
import pytest

from datamodules.degradations.blur import MotionBlur, motion_kernel
from tests.datamodules.conftest import grey


@pytest.mark.parametrize("angle", [-70, 0, 30])
@pytest.mark.parametrize("length", [0, 0.5, 7, 12.3])
def test_motion_kernel_spreads_a_unit_of_light_over_its_length(length, angle):
    kernel = motion_kernel(length, angle)
    assert kernel.sum() == pytest.approx(1, rel=1e-6)
    rows, columns = np.indices(kernel.shape) - len(kernel) // 2
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    along = sine * columns - cosine * rows
    assert (kernel * along).sum() == pytest.approx(0, abs=1e-5)
    # A line of that length, and at most 1/4 from bilinear sharing on either axis.
    assert (kernel * along**2).sum() == pytest.approx(length**2 / 12, abs=0.26)
    assert (kernel * (cosine * columns + sine * rows) ** 2).sum() <= 0.26


def test_no_motion_is_the_identity(rng):
    image = rng.random((20, 30, 3), np.float32)
    np.testing.assert_allclose(MotionBlur((0, 0)).apply(image, rng), image, atol=1e-6)


def test_motion_blur_keeps_the_mean_of_a_constant(rng):
    np.testing.assert_allclose(MotionBlur().apply(grey(0.3), rng), 0.3, atol=1e-5)
