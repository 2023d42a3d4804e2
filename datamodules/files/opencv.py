"""Habits of OpenCV and of the libraries beneath: the order of channels, and lines that they write."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from numpy.typing import NDArray


def swap_red_and_blue(image: NDArray) -> NDArray:
    """Turn (H, W, C) from RGB or RGBA into OpenCV's order, or back; grey stays."""
    image = np.ascontiguousarray(image)
    if image.shape[2] == 1:
        return image
    # Many times as fast as indexing.
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


@contextmanager
def silent_decoders() -> Iterator[None]:
    """Keep the lines of image libraries from standing beside the one message that the user needs."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    tifffile = logging.getLogger("tifffile")
    disabled, tifffile.disabled = tifffile.disabled, True
    # libpng, libjpeg and libtiff write to the process's standard error, whatever Python thinks that is.
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        tifffile.disabled = disabled
        cv2.utils.logging.setLogLevel(level)
