"""MATLAB's bicubic, held to recorded results."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from datamodules.degradations.imresize import contributions, cubic, imresize
from tests.goldens import DIRECTORY

GOLDEN = load_file(DIRECTORY / "imresize.safetensors")
CASES = {
    name: case
    for name, case in json.loads((DIRECTORY / "imresize.json").read_text())["cases"].items()
    if name in GOLDEN and name.startswith("img")
}


@pytest.mark.parametrize("name", CASES)
def test_imresize_equals_the_reference(name):
    case = CASES[name]
    image = GOLDEN[name.partition(".")[0]].transpose(1, 2, 0).astype(np.float32) / 255
    if "cropped" in case.get("input", ""):
        image = image[:40, :36]
    # The only case without antialiasing does not repeat its scale.
    resized = imresize(image, case.get("scale", 0.25), antialiasing=case.get("antialiasing", True))
    assert resized.dtype == np.float32
    # The reference computes in float32: its own rounding, about 2e-6 at fractional scales.
    np.testing.assert_allclose(resized.transpose(2, 0, 1), GOLDEN[name], rtol=0, atol=4e-6)


def test_contributions_equal_the_reference():
    weights, positions = contributions(30, 10 / 30)
    # The reference drops the outer taps, which weigh nothing, and counts from its mirrored border of four pixels.
    assert not weights[:, [0, -1]].any()
    np.testing.assert_allclose(weights[:, 1:-1], GOLDEN["weights_30_to_10"], atol=1e-7)
    np.testing.assert_array_equal(positions[:, 1:-1] + 4, GOLDEN["indices_30_to_10"])


@pytest.mark.parametrize("scale", [1 / 3, 0.7, 1.5])
def test_constant_image_stays_constant(scale):
    np.testing.assert_allclose(imresize(np.full((5, 4, 2), 0.3), scale), 0.3, rtol=1e-12)


def test_image_smaller_than_the_kernel_is_mirrored_repeatedly(rng):
    image = rng.random((2, 3, 1))
    tiled = np.concatenate([image, image[::-1]] * 9)
    np.testing.assert_allclose(imresize(image, 1 / 2)[0], imresize(tiled, 1 / 2)[8], rtol=1e-12)


def test_scale_one_is_the_identity(rng):
    image = rng.random((5, 4, 3))
    np.testing.assert_allclose(imresize(image, 1), image, rtol=1e-12)


def test_cubic_interpolates():
    assert cubic(np.array([-2.0, -1, 0, 1, 2, 3])).tolist() == [0, 0, 1, 0, 0, 0]


def test_8_bit_images_are_rounded_after_each_axis_rows_first(rng):
    image = rng.integers(0, 256, (12, 18, 3)).astype(np.uint8)

    def along(levels, axis):
        # Whole, by a matrix; beyond the border the image is mirrored.
        weights, positions = contributions(levels.shape[axis], 1 / 3)
        matrix = np.zeros((len(weights), levels.shape[axis]))
        reflected = np.pad(np.arange(levels.shape[axis]), 12, mode="symmetric")[positions + 12]
        np.add.at(matrix, (np.arange(len(weights))[:, None], reflected), weights)
        return np.floor(np.moveaxis(np.tensordot(matrix, levels, (1, axis)), 0, axis) + 0.5).clip(0, 255)

    resized = imresize(image, 1 / 3)
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(resized, along(along(image.astype(float), 0), 1))
    assert (resized != along(along(image.astype(float), 1), 0)).any()


@pytest.mark.parametrize("scale", [0, -1, float("nan")])
def test_scale_must_be_positive(scale):
    with pytest.raises(ValueError, match=r"scale .* must be positive"):
        imresize(np.zeros((4, 4, 3)), scale)


@pytest.mark.parametrize("shape", [(4, 4), (0, 4, 3)])
def test_image_must_have_pixels_and_channels(shape):
    with pytest.raises(ValueError, match=r"must have shape \(H, W, C\)"):
        imresize(np.zeros(shape), 0.5)
