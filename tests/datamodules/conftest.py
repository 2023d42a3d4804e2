"""Small images on disk."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.files.images import write_image


def coordinates(height, width, scale=1):
    """An image whose pixels tell their place: red is the row, green the column, in pixels of the input."""
    rows, columns = np.indices((height * scale, width * scale)) // scale
    return np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)


def write_pairs(folder: Path, names, size=(24, 32), scale=1, inputs="input", targets="target", suffix=".png"):
    """Write a pair of images for each name, the same content in both."""
    for sub, factor in ((inputs, 1), (targets, scale)):
        (folder / sub).mkdir(parents=True, exist_ok=True)
        for name in names:
            write_image(folder / sub / f"{name}{suffix}", coordinates(*size, factor))
    return folder


def grey(level, height=64, width=64):
    """An even image with three channels."""
    return np.full((height, width, 3), level, np.float32)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
