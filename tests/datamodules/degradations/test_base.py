"""Degradations in a row, and smooth fields."""

import numpy as np
import pytest

from datamodules.degradations.base import Chain, smooth_field
from datamodules.degradations.downsampling import BicubicDownsampling
from datamodules.degradations.noise import GaussianNoise


def test_field_is_smooth_and_fills_its_range(rng):
    field = smooth_field(400, 500, 40, rng)
    assert field.shape == (400, 500)
    assert field.dtype == np.float32
    assert max(np.abs(np.diff(field, axis=axis)).max() for axis in (0, 1)) < 0.1
    assert field.min() < 0.1
    assert field.max() > 0.9


def test_chain_applies_its_steps_in_order():
    steps = (BicubicDownsampling(2), GaussianNoise(), BicubicDownsampling(2))
    image = np.random.default_rng(1).random((32, 32, 3), np.float32)
    rng = np.random.default_rng(0)
    expected = image
    for step in steps:
        expected = step.apply(expected, rng)
    chain = Chain(steps)
    assert chain.scale == 4
    np.testing.assert_array_equal(chain.apply(image, np.random.default_rng(0)), expected)


def test_empty_chain_is_refused():
    with pytest.raises(ValueError, match="at least one degradation"):
        Chain(())
