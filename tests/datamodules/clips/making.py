"""Small clips on disk."""

from pathlib import Path

import numpy as np

from datamodules.clips.film_writer import FilmOptions, write_film
from datamodules.files.images import write_image
from tests.datamodules.conftest import coordinates


def frames(count=6, size=(24, 32), scale=1):
    """Frames whose pixels tell their place: red is the row, green the column, blue the frame."""
    clip = np.stack([coordinates(*size, scale)] * count)
    clip[..., 2] = 10 * np.arange(count)[:, None, None]
    return clip


def write_frames(folder: Path, clip, start=0, step=1, digits=8):
    for number, frame in enumerate(clip):
        write_image(folder / f"{start + step * number:0{digits}}.png", frame)
    return folder


def write_clips(root: Path, names, halves=("input", "target"), count=6, size=(24, 32), scale=1):
    """Write a pair of clips for each name, the same content in both."""
    for half, factor in zip(halves, (1, scale), strict=True):
        for name in names:
            write_frames(root / half / name, frames(count, size, factor))
    return root


def smooth(count=8, size=(48, 64)):
    """Frames of smooth colours that move, which codecs keep well."""
    rows, columns = np.indices(size)
    clip = [
        128 + 100 * np.sin((rows + 2 * number) / 9 + np.arange(3)[:, None, None]) * np.cos(columns / 13)
        for number in range(count)
    ]
    return np.stack(clip).transpose(0, 2, 3, 1).round().astype(np.uint8)


def write_smooth_film(path: Path, count=8, size=(48, 64), **options):
    write_film(path, smooth(count, size), like=None, options=FilmOptions(**options))
    return path
