"""Rain: streaks, their distances, and the veil."""

import math

import numpy as np
import pytest

from datamodules.degradations.rain import Rain, streak_kernel
from tests.datamodules.conftest import grey

NO_STREAKS = {"density": (0.0, 0.0)}
NO_HAZE = {"haze": (0.0, 0.0)}


def test_rain_adds_the_same_light_to_all_channels_and_backgrounds():
    rain = Rain(**NO_HAZE, brightness=(0.3, 0.3))
    added = [rain.apply(grey(level), np.random.default_rng(0)) - level for level in (0.1, 0.3)]
    np.testing.assert_allclose(added[0], added[1], atol=1e-6)
    assert (np.ptp(added[0], axis=2) == 0).all()
    assert added[0].min() >= 0


def test_streaks_cover_more_with_density_and_are_brighter_with_brightness():
    def mean(**ranges):
        return np.mean([Rain(**ranges).streaks(128, 128, np.random.default_rng(i)).mean() for i in range(8)])

    few = {"density": (2, 2), "brightness": (0.2, 0.2), "length": (16, 16), "width": (1.5, 1.5)}
    assert mean(**few | {"density": (4, 4)}) == pytest.approx(2 * mean(**few), rel=0.15)
    assert mean(**few | {"brightness": (0.4, 0.4)}) == pytest.approx(2 * mean(**few), rel=0.05)
    assert mean(**few | {"length": (32, 32)}) == pytest.approx(2 * mean(**few), rel=0.15)


def test_borders_have_as_much_rain_as_the_middle():
    rain = Rain(brightness=(0.2, 0.2))
    light = np.mean([rain.streaks(64, 64, np.random.default_rng(i)) for i in range(400)], axis=0)
    border = np.concatenate([light[:2].ravel(), light[-2:].ravel(), light[:, :2].ravel(), light[:, -2:].ravel()])
    assert border.mean() == pytest.approx(light.mean(), rel=0.05)


@pytest.mark.parametrize("angle", [-40, 0, 25])
def test_streaks_point_along_their_angle(angle):
    kernel = streak_kernel(25, 1.5, angle)
    assert kernel.shape[0] == kernel.shape[1]
    assert kernel.shape[0] % 2 == 1
    rows, columns = np.indices(kernel.shape) - len(kernel) // 2
    xx, yy, xy = ((kernel * product).sum() for product in (columns * columns, rows * rows, rows * columns))
    # The principal axis of inertia; rows count downwards, so up is −rows.
    measured = math.degrees(0.5 * math.atan2(-2 * xy, yy - xx))
    assert measured == pytest.approx(angle, abs=0.5)


def test_streak_has_its_width_and_fades_below_a_pixel():
    wide = streak_kernel(30, 6, 0)
    section = wide[len(wide) // 2]
    assert section.max() == pytest.approx(1, abs=0.03)
    assert (section >= section.max() / 2).sum() == pytest.approx(6, abs=1)
    # Light per unit of length is that of the Gaussian section, however few pixels it covers.
    for width in (0.3, 1, 3):
        kernel = streak_kernel(30, width, 0)
        assert kernel[len(kernel) // 2].sum() == pytest.approx(width * math.sqrt(math.pi / (4 * math.log(2))), rel=0.02)


@pytest.mark.parametrize("beta", [0.2, 1.0])
def test_haze_follows_the_scattering_law(beta):
    airlight = 0.8
    rain = Rain(**NO_STREAKS, haze=(beta, beta), airlight=(airlight, airlight))
    dark, bright = (rain.apply(grey(level), np.random.default_rng(3)) for level in (0.1, 0.9))
    transmission = (bright - dark) / 0.8
    assert transmission.min() >= math.exp(-beta) - 1e-5
    assert transmission.max() <= 1 + 1e-5
    assert np.ptp(transmission) > 0.02
    np.testing.assert_allclose(dark, 0.1 * transmission + airlight * (1 - transmission), atol=1e-5)


def test_haze_veils_the_streaks_as_well():
    ranges = {"brightness": (0.3, 0.3), "airlight": (0.0, 0.0), "depth_scale": 1.0}
    clear = Rain(**ranges, **NO_HAZE).apply(grey(0.2), np.random.default_rng(0))
    veiled = Rain(**ranges, haze=(50, 50)).apply(grey(0.2), np.random.default_rng(0))
    assert veiled.mean() < 0.1 * clear.mean()


def test_rain_without_streaks_and_haze_is_the_identity(rng):
    image = rng.random((20, 30, 3), np.float32)
    np.testing.assert_array_equal(Rain(**NO_STREAKS, **NO_HAZE).apply(image, rng), image)
