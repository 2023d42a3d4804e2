"""PSNR, SSIM and MATLAB's Y, pixel by pixel and window by window, from their definitions."""

import math

import numpy as np


def rounded_luma(red, green, blue):
    """Y of BT.601 in studio range, rounded, halves up, in integers: Y = 16 + 219 (299 R + 587 G + 114 B) / 255000."""
    numerator = 16 * 255000 + 219 * (299 * red + 587 * green + 114 * blue)
    return (2 * numerator + 255000) // (2 * 255000)


def psnr(x, y):
    """PSNR of two images of 8-bit levels, shape (H, W) or (H, W, C)."""
    squares = sum((int(a) - int(b)) ** 2 for a, b in zip(x.ravel(), y.ravel(), strict=True))
    return 10 * math.log10(255**2 * x.size / squares)


def ssim(x, y):
    """SSIM of two single-channel images of levels from 0 to 255, shape (H, W)."""
    weights = np.array([[math.exp(-(i**2 + j**2) / (2 * 1.5**2)) for j in range(-5, 6)] for i in range(-5, 6)])
    weights /= weights.sum()
    x, y = x.astype(np.float64), y.astype(np.float64)
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = x[top : top + 11, left : left + 11], y[top : top + 11, left : left + 11]
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            variance_a, variance_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
            luminance = (2 * mean_a * mean_b + 2.55**2) / (mean_a**2 + mean_b**2 + 2.55**2)
            values.append(luminance * (2 * covariance + 7.65**2) / (variance_a + variance_b + 7.65**2))
    return sum(values) / len(values)


def ssim_volume(x, y):
    """SSIM of two volumes of levels from 0 to 255, shape (H, W, C), continued by their border voxels."""
    line = np.array([math.exp(-(i**2) / (2 * 1.5**2)) for i in range(-5, 6)])
    weights = line[:, None, None] * line[:, None] * line
    weights /= weights.sum()
    x, y = (np.pad(volume.astype(np.float64), 5, mode="edge") for volume in (x, y))
    values = []
    for corner in np.ndindex(*(side - 10 for side in x.shape)):
        window = tuple(slice(start, start + 11) for start in corner)
        mean_x, mean_y = (weights * x[window]).sum(), (weights * y[window]).sum()
        variance_x, variance_y = (
            (weights * (x[window] - mean_x) ** 2).sum(),
            (weights * (y[window] - mean_y) ** 2).sum(),
        )
        covariance = (weights * (x[window] - mean_x) * (y[window] - mean_y)).sum()
        luminance = (2 * mean_x * mean_y + 2.55**2) / (mean_x**2 + mean_y**2 + 2.55**2)
        values.append(luminance * (2 * covariance + 7.65**2) / (variance_x + variance_y + 7.65**2))
    return sum(values) / len(values)
