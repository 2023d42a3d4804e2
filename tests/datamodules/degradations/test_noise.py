"""Noise of sensors."""

import numpy as np
import pytest

from datamodules.degradations.noise import GaussianNoise, ShotNoise
from tests.datamodules.conftest import grey


@pytest.mark.parametrize("sigma", [5, 25])
def test_gaussian_noise_has_its_deviation(rng, sigma):
    noise = GaussianNoise((sigma, sigma)).apply(grey(0.5, 200, 200), rng) - 0.5
    assert noise.std() * 255 == pytest.approx(sigma, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=1e-3)
    assert np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1] == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("level", [0.1, 0.5])
def test_shot_noise_varies_with_the_light(rng, level):
    counted = ShotNoise((200, 200)).apply(grey(level, 200, 200), rng)
    assert counted.mean() == pytest.approx(level, rel=0.01)
    assert counted.var() == pytest.approx(level / 200, rel=0.03)
