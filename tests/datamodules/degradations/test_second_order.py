"""Two rounds of blur, resampling, noise and JPEG: kernels against their formulas, every branch by its probability."""

import dataclasses
import math

import numpy as np
import pytest

from datamodules.degradations.second_order import (
    FIRST,
    SECOND,
    SIDES,
    DegradationRound,
    SecondOrderDegradation,
    blur_kernel,
    ringing_kernel,
)

QUIET = DegradationRound(blur=0, larger=0, smaller=0, gaussian=1, noise=(0, 0), quality=(100, 100))
"""A round that changes nothing but by the rounding of JPEG."""


def clean(height=32, width=48):
    return np.random.default_rng(3).random((height, width, 3), np.float32)


@pytest.mark.parametrize("side", SIDES)
def test_kernels_keep_the_brightness_and_are_centred(side):
    for seed in range(30):
        rng = np.random.default_rng(seed)
        for kernel in (blur_kernel(side, (0.2, 3), rng), ringing_kernel(side, rng)):
            assert kernel.shape == (side, side)
            assert kernel.dtype == np.float32
            assert kernel.sum() == pytest.approx(1, abs=1e-5)
            np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-6)


def test_a_ringing_kernel_is_a_low_pass_filter_of_its_cutoff():
    class Fixed:
        def uniform(self, low, high):
            assert (low, high) == (math.pi / 5, math.pi)
            return math.pi / 2

    kernel = ringing_kernel(21, Fixed())
    response = np.abs(np.fft.fft2(kernel, (256, 256)))[0]
    assert response[:48].min() > 0.85
    assert response[88:128].max() < 0.15
    assert kernel.min() < 0


def test_gaussians_have_their_standard_deviations(monkeypatch):
    monkeypatch.setattr("datamodules.degradations.second_order.ANISOTROPIC", 0)
    monkeypatch.setattr("datamodules.degradations.second_order.GENERALISED", 0)
    monkeypatch.setattr("datamodules.degradations.second_order.PLATEAU", 0)
    kernel = blur_kernel(21, (1.5, 1.5), np.random.default_rng(0))
    places = np.arange(21) - 10
    assert math.sqrt((kernel.sum(0) * places**2).sum()) == pytest.approx(1.5, rel=1e-3)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_an_image_is_degraded_to_its_size_and_the_same_for_one_seed(scale):
    degradation = SecondOrderDegradation(scale)
    image = clean(48, 64)
    for seed in range(12):
        one, two = (degradation.apply(image, np.random.default_rng(seed)) for _ in range(2))
        assert one.shape == (48 // scale, 64 // scale, 3)
        assert one.dtype == np.float32
        assert 0 <= one.min() <= one.max() <= 1
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, degradation.apply(image, np.random.default_rng(99)))


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 5, 1), (3, 40, 3)])
def test_small_and_grey_images_are_taken(shape):
    image = np.random.default_rng(0).random(shape, np.float32)
    for seed in range(6):
        assert SecondOrderDegradation().apply(image, np.random.default_rng(seed)).shape == shape


def texture() -> np.ndarray:
    """Grey waves four pixels long."""
    waves = 0.5 + 0.3 * np.sin(np.pi / 2 * np.add.outer(np.arange(32), 0.7 * np.arange(48)))
    return waves.astype(np.float32)[..., None].repeat(3, 2)


def test_rounds_that_do_nothing_leave_the_image():
    degradation = SecondOrderDegradation(1, QUIET, QUIET, last_ringing=0)
    smooth = np.linspace(0.2, 0.8, 48, dtype=np.float32)[None, :, None].repeat(32, 0).repeat(3, 2)
    np.testing.assert_allclose(degradation.apply(smooth, np.random.default_rng(0)), smooth, atol=3 / 255)


@pytest.mark.parametrize(
    "change",
    [{"blur": 1}, {"blur": 1, "ringing": 1}, {"smaller": 1}, {"larger": 1}, {"noise": (30, 30)}, {"quality": (5, 5)}],
    ids=str,
)
@pytest.mark.parametrize("place", ["first", "second"])
def test_each_part_of_each_round_degrades(change, place):
    image, rng = texture(), lambda: np.random.default_rng(4)
    quiet = SecondOrderDegradation(1, QUIET, QUIET, last_ringing=0)
    rounds = {"first": QUIET, "second": QUIET} | {place: dataclasses.replace(QUIET, **change)}
    changed = SecondOrderDegradation(1, **rounds, last_ringing=0)
    error, least = (np.abs(one.apply(image, rng()) - image).mean() for one in (changed, quiet))
    assert error > 1.2 * least


@pytest.mark.parametrize(("gaussian", "grey"), [(1, 0), (1, 1), (0, 0), (0, 1)])
def test_noise_is_of_its_kind(gaussian, grey):
    kind = dataclasses.replace(QUIET, gaussian=gaussian, grey=grey, noise=(20, 20), shot=(1, 1))
    level = np.full((200, 200, 3), 0.5, np.float32)
    noise = kind.noisy(level, np.random.default_rng(0)) - level
    expected = 20 / 255 if gaussian else math.sqrt(0.5 / 256)
    assert noise.std() == pytest.approx(expected, rel=0.05)
    assert (np.ptp(noise, axis=2).max() < 1e-6) == bool(grey)


def test_factors_are_drawn_by_their_probabilities():
    rng = np.random.default_rng(0)
    factors = np.array([FIRST.factor(rng) for _ in range(4000)])
    assert (factors > 1).mean() == pytest.approx(0.2, abs=0.03)
    assert (factors < 1).mean() == pytest.approx(0.7, abs=0.03)
    assert 0.15 <= factors.min() < 0.2
    assert 1.45 < factors.max() <= 1.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DegradationRound(blur=1.5), "blur"),
        (lambda: DegradationRound(larger=0.6, smaller=0.5), "smaller"),
        (lambda: DegradationRound(sigma=(0, 1)), "sigma"),
        (lambda: DegradationRound(resize=(1.1, 1.2)), "resize"),
        (lambda: DegradationRound(resize=(0.5, 0.9)), "resize"),
        (lambda: DegradationRound(noise=(-1, 1)), "noise"),
        (lambda: DegradationRound(shot=(0, 1)), "shot"),
        (lambda: DegradationRound(quality=(0, 50)), "quality"),
        (lambda: SecondOrderDegradation(0), "scale"),
        (lambda: SecondOrderDegradation(last_ringing=2), "last_ringing"),
        (lambda: SecondOrderDegradation(3).apply(clean(), np.random.default_rng(0)), "multiples of scale"),
    ],
)
def test_ranges_and_sizes_are_validated(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_second_round_is_gentler():
    assert SECOND.sigma[1] < FIRST.sigma[1]
    assert SECOND.resize[0] > FIRST.resize[0]
