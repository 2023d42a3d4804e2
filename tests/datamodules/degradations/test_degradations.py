"""Degradations against the physics that they state."""

import math

import numpy as np
import pytest

from datamodules.degradations.base import Chain, smooth_field
from datamodules.degradations.blur import MotionBlur, motion_kernel
from datamodules.degradations.downsampling import BicubicDownsampling
from datamodules.degradations.imresize import imresize
from datamodules.degradations.noise import GaussianNoise, ShotNoise
from datamodules.degradations.rain import Rain, streak_kernel

ALL = [Rain(), GaussianNoise(), ShotNoise(), MotionBlur(), BicubicDownsampling(2), Chain((Rain(), GaussianNoise()))]
NO_STREAKS = {"density": (0.0, 0.0)}
NO_HAZE = {"haze": (0.0, 0.0)}


def grey(level, height=64, width=64):
    return np.full((height, width, 3), level, np.float32)


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


def test_field_is_smooth_and_fills_its_range(rng):
    field = smooth_field(400, 500, 40, rng)
    assert field.shape == (400, 500)
    assert field.dtype == np.float32
    assert max(np.abs(np.diff(field, axis=axis)).max() for axis in (0, 1)) < 0.1
    assert field.min() < 0.1
    assert field.max() > 0.9


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


def test_downsampling_is_imresize_clipped(rng):
    image = (rng.random((12, 18, 3)) > 0.5).astype(np.float32)
    shrunk = BicubicDownsampling(3).apply(image, rng)
    np.testing.assert_array_equal(shrunk, np.clip(imresize(image, 1 / 3), 0, 1))


def test_downsampling_needs_whole_multiples(rng):
    with pytest.raises(ValueError, match=r"sides of the image \(10×12\) must be multiples of scale \(3\)"):
        BicubicDownsampling(3).apply(np.zeros((10, 12, 3), np.float32), rng)


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
