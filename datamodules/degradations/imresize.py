"""MATLAB's antialiased bicubic `imresize`, which defines the inputs of super-resolution benchmarks."""

import math

import numpy as np
from numpy.typing import NDArray


def imresize(image: NDArray, scale: float, *, antialiasing: bool = True) -> NDArray:
    """Resize by Keys' cubic convolution (a = −1/2), widened by 1/scale when it shrinks, mirrored at the borders.

    R. Keys, "Cubic convolution interpolation for digital image processing", 1981; the conventions (pixel centres,
    normalised weights, symmetric borders, ceil of the size) are those of MATLAB's `imresize`.

    Args:
        image: shape (H, W, C), floating point or uint8.
        scale: output size relative to the input's, > 0.
        antialiasing: widen the kernel when shrinking; without it details alias.

    Returns:
        Shape (⌈scale·H⌉, ⌈scale·W⌉, C), dtype of `image`. Floats are neither rounded nor clamped; uint8 is both, after
        each axis, rows first: so made, the 8-bit inputs of benchmarks are reproduced exactly.

    Raises:
        ValueError: if `scale` is not positive or the image has no pixels.

    Examples:
        >>> import numpy as np
        >>> from datamodules.degradations import imresize
        >>> image = np.array([[0, 80, 160, 240]] * 4, np.uint8)[..., None]
        >>> imresize(image, 0.5)[:, :, 0]
        array([[ 37, 203],
               [ 37, 203]], dtype=uint8)
    """
    if not scale > 0:
        raise ValueError(f"scale ({scale}) must be positive; 0.5 halves the size, 2 doubles it")
    if image.ndim != 3 or image.size == 0:
        raise ValueError(f"image must have shape (H, W, C) and pixels, got {image.shape}")
    resized = image.astype(np.float64)
    for axis in (0, 1):
        resized = _resize_axis(resized, axis, scale, antialiasing)
        if image.dtype == np.uint8:
            resized = np.floor(resized + 0.5).clip(0, 255)
    return resized.astype(image.dtype)


def contributions(length: int, scale: float, antialiasing: bool = True) -> tuple[NDArray, NDArray]:
    """Weigh the input pixels that each output pixel of one axis is made of.

    Args:
        length: input pixels along the axis.
        scale: output size relative to the input's.
        antialiasing: widen the kernel when shrinking.

    Returns:
        Weights, shape (⌈scale·length⌉, taps), each row of sum 1; and positions of their pixels, of the same shape,
        not yet mirrored into [0, length).
    """
    stretch = min(scale, 1.0) if antialiasing else 1.0
    width = 4.0 / stretch
    centres = (np.arange(math.ceil(length * scale)) + 0.5) / scale - 0.5
    taps = math.ceil(width) + 2
    positions = (np.floor(centres - width / 2)[:, None] + np.arange(taps)).astype(np.int64)
    weights = cubic(stretch * (centres[:, None] - positions))
    return weights / weights.sum(axis=1, keepdims=True), positions


def _resize_axis(image: NDArray, axis: int, scale: float, antialiasing: bool) -> NDArray:
    length = image.shape[axis]
    weights, positions = contributions(length, scale, antialiasing)
    mirrored = positions % (2 * length)
    mirrored = np.minimum(mirrored, 2 * length - 1 - mirrored)
    column = [1, 1, 1]
    column[axis] = -1
    # One tap at a time: gathering all taps at once would need taps times the image's memory.
    resized = np.zeros([len(weights) if side == axis else n for side, n in enumerate(image.shape)])
    for weight, index in zip(weights.T, mirrored.T, strict=True):
        if weight.any():
            resized += weight.reshape(column) * np.take(image, index, axis=axis)
    return resized


def cubic(x: NDArray) -> NDArray:
    """Evaluate Keys' cubic convolution kernel (a = −1/2).

    Args:
        x: offsets in pixels, any shape.

    Returns:
        Weights of the same shape: 1 at 0, 0 at other whole numbers and beyond ±2.
    """
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
