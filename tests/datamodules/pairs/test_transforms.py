"""Crops and symmetries, the same for input and target."""

import subprocess
import sys

import numpy as np
import pytest

from datamodules.pairs.transforms import PairedTransform
from tests.datamodules.conftest import coordinates


def elements(patch):
    """All eight symmetries of a patch."""
    turned = [np.rot90(patch, quarter) for quarter in range(4)]
    return [*turned, *(np.flip(one, axis=1) for one in turned)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_input_and_target_stay_aligned(rng, dtype, channels):
    image = coordinates(40, 50)[..., :channels].astype(dtype)
    transform = PairedTransform(16)
    for _ in range(20):
        patch, target = transform(image, image + dtype(1), rng)
        assert patch.shape == (16, 16, channels)
        assert patch.dtype == target.dtype == dtype
        np.testing.assert_array_equal(patch + dtype(1), target)


@pytest.mark.parametrize("size", [(40, 50), (10, 50), (9, 11)])
@pytest.mark.parametrize("scale", [2, 3])
def test_larger_target_stays_aligned_also_where_extended(rng, scale, size):
    image, target = coordinates(*size), coordinates(*size, scale)
    transform = PairedTransform(16, scale=scale)
    for _ in range(20):
        small, large = transform(image, target, rng)
        assert large.shape == (16 * scale, 16 * scale, 3)
        np.testing.assert_array_equal(small.repeat(scale, 0).repeat(scale, 1), large)


def test_all_eight_symmetries_are_drawn(rng):
    image = coordinates(8, 8)
    transform = PairedTransform(8)
    seen = {transform(image, image, rng)[0].tobytes() for _ in range(200)}
    assert seen == {np.ascontiguousarray(one).tobytes() for one in elements(image)}


def test_without_augmentation_patches_are_only_cut(rng):
    image = coordinates(20, 30)
    transform = PairedTransform(8, augment=False)
    corners = set()
    for _ in range(300):
        patch, _ = transform(image, image, rng)
        row, column = patch[0, 0, :2]
        np.testing.assert_array_equal(patch, image[row : row + 8, column : column + 8])
        corners.add((int(row), int(column)))
    assert {min(corners)[0], max(corners)[0]} == {0, 12}
    assert len(corners) > 150


def test_small_image_is_reflected_with_its_edge_repeated(rng):
    image = coordinates(3, 5)
    patch, _ = PairedTransform(5, augment=False)(image, image, rng)
    assert patch[:, 0, 0].tolist() == [0, 1, 2, 2, 1]


def test_same_generator_gives_the_same_patches():
    image = coordinates(40, 50)
    one, two = PairedTransform(8), PairedTransform(8)
    one(image, image, np.random.default_rng(1))  # what was drawn before does not matter
    for seed in range(5):
        patches = [t(image, image, np.random.default_rng(seed))[0] for t in (one, two)]
        np.testing.assert_array_equal(*patches)


@pytest.mark.parametrize("argument", ["patch_size", "scale"])
def test_sizes_must_be_positive(argument):
    with pytest.raises(ValueError, match=rf"{argument} \(0\) must be at least 1"):
        PairedTransform(**{"patch_size": 8, argument: 0})


def test_import_asks_no_server_for_versions():
    code = """
import urllib.request
def refuse(*args, **kwargs): raise SystemExit("network")
urllib.request.build_opener = urllib.request.urlopen = refuse
import datamodules.pairs.transforms
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
