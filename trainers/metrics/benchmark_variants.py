"""Metrics of single benchmarks: MATLAB's 3-D SSIM, SSIM after pooling, PSNR-B."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.metrics.base import PEAK, ImageMetric, check_images, levels
from trainers.metrics.psnr_ssim import Space, describe, prepare
from trainers.metrics.similarity import RADIUS, SIDE, across_channels, mean_similarity

# Shorter side, in pixels, that Wang's recommendation for viewing distances pools an image to.
_POOLED_SIDE = 256

_BLOCK = 8


def ssim_3d(preds: Tensor, target: Tensor, *, quantise: bool = True) -> Tensor:
    """Measure the structural similarity of each image as MATLAB's `ssim` does when it is given a colour image.

    It takes the three channels for the depth of a volume: its Gaussian window (11, σ = 1.5) extends over the channels
    too, and the image is continued by its border pixels. So Restormer, MPRNet and Uformer measure GoPro, HIDE (8 bits)
    and SIDD (floats). A grey image is compared in 2-D, its borders continued alike.

    Args:
        preds: restored images, shape (B, C, H, W) with C = 1 or 3; clamped to [0, 1].
        target: ground truth, same shape, in [0, 1].
        quantise: round to 8 bits first.

    Returns:
        Shape (B,), float64, at most 1.

    Raises:
        ValueError: as `psnr`.

    Examples:
        >>> import torch
        >>> from trainers.metrics import ssim_3d
        >>> target = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16)
        >>> round(ssim_3d(0.9 * target, target).item(), 4)
        0.9893
    """
    check_images(preds, target)
    x, y = (F.pad(levels(image, quantise), (RADIUS,) * 4, mode="replicate") for image in (preds, target))
    return mean_similarity(x, y, mixing=across_channels(x.shape[1]).to(x.device))


def pooled_ssim(preds: Tensor, target: Tensor) -> Tensor:
    """Measure the structural similarity of each image after pooling, as DehazeFormer does.

    Both sides are divided by max(1, round(min(H, W) / 256)), rounded down, and the image is averaged over the cells of
    that grid; then `ssim` on RGB floats.

    Args:
        preds: restored images, shape (B, C, H, W) with C = 1 or 3; clamped to [0, 1].
        target: ground truth, same shape, in [0, 1].

    Returns:
        Shape (B,), float64, at most 1.

    Raises:
        ValueError: as `ssim`.

    Examples:
        >>> import torch
        >>> from trainers.metrics import pooled_ssim
        >>> target = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16)
        >>> round(pooled_ssim(0.9 * target, target).item(), 4)
        0.9893
    """
    x, y = prepare(preds, target, quantise=False, smallest=SIDE)
    height, width = x.shape[-2:]
    ratio = max(1, round(min(height, width) / _POOLED_SIDE))
    size = (height // ratio, width // ratio)
    return mean_similarity(F.adaptive_avg_pool2d(x, size), F.adaptive_avg_pool2d(y, size))


def psnr_b(preds: Tensor, target: Tensor, *, space: Space = "rgb", border: int = 0) -> Tensor:
    """Measure PSNR-B, which counts the blocks of 8 × 8 pixels that JPEG leaves as an error of their own.

    Yim and Bovik, Quality Assessment of Deblocked Images (2011), as SwinIR measures JPEG artefact removal:
    10 log10(255² / (mean squared error + η·max(0, D_b − D_n))) for each channel, then their mean. D_b and D_n are the
    mean squared steps of `preds` across and between the borders of blocks, η = log2 8 / log2 min(H, W). Where sides are
    no multiples of 8, the script counts one column (row) of borders fewer than it sums up, and so does this function.

    Args:
        preds: restored images, shape (B, C, H, W) with C = 1 or 3; clamped to [0, 1] and rounded to 8 bits.
        target: ground truth, same shape, in [0, 1].
        space: as in `psnr`.
        border: pixels left out on each side; at least 16 × 16 must remain.

    Returns:
        Decibels, shape (B,), float64.

    Raises:
        ValueError: as `psnr`, or if the images have fewer than two blocks a side.

    Examples:
        >>> import torch
        >>> from trainers.metrics import psnr_b
        >>> target = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16)
        >>> round(psnr_b(0.9 * target, target).item(), 3)
        24.757
    """
    x, y = prepare(preds, target, space=space, border=border, smallest=2 * _BLOCK)
    error = (x - y).square().mean((2, 3)) + _blocking(x)
    return (10 * torch.log10(PEAK**2 / error)).mean(1)


def _blocking(image: Tensor) -> Tensor:
    """Return η·max(0, D_b − D_n) of each channel: (B, C, H, W) → (B, C)."""
    height, width = image.shape[-2:]
    across, everywhere = image.new_zeros(image.shape[:2]), image.new_zeros(image.shape[:2])
    for dim in (2, 3):
        steps = image.diff(dim=dim).square().sum(5 - dim)
        across += steps[..., _BLOCK - 1 :: _BLOCK].sum(-1)
        everywhere += steps.sum(-1)
    borders = height * (width // _BLOCK - 1) + width * (height // _BLOCK - 1)
    others = height * (width - 1) + width * (height - 1) - borders
    excess = across / borders - (everywhere - across) / others
    return math.log2(_BLOCK) / math.log2(min(height, width)) * excess.clamp_min(0)


class SSIM3D(ImageMetric):
    """Average MATLAB's SSIM of colour images over images (see `ssim_3d`).

    Args:
        quantise: round to 8 bits first (GoPro, HIDE); False: SIDD.

    Examples:
        >>> import torch
        >>> from trainers.metrics import SSIM3D
        >>> target = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16)
        >>> metric = SSIM3D()
        >>> round(metric(0.9 * target, target).item(), 4)
        0.9893
        >>> metric.protocol
        "SSIM as MATLAB's on RGB volumes (Gaussian 11, 1.5, continued borders), uint8"
    """

    higher_is_better = True

    def __init__(self, quantise: bool = True) -> None:
        kind = "uint8" if quantise else "float"
        super().__init__("SSIM-3D", f"SSIM as MATLAB's on RGB volumes (Gaussian 11, 1.5, continued borders), {kind}")
        self.quantise = quantise

    def measure(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the 3-D SSIM of each image, shape (B,), float64."""
        return ssim_3d(preds, target, quantise=self.quantise)


class PooledSSIM(ImageMetric):
    """Average DehazeFormer's SSIM over images (see `pooled_ssim`).

    Examples:
        >>> import torch
        >>> from trainers.metrics import PooledSSIM
        >>> target = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16)
        >>> metric = PooledSSIM()
        >>> round(metric(0.9 * target, target).item(), 4)
        0.9893
        >>> metric.protocol
        'SSIM (Gaussian 11, 1.5, unpadded) on RGB averaged down by round(min(H, W) / 256), float'
    """

    higher_is_better = True

    def __init__(self) -> None:
        super().__init__(
            "SSIM-pooled",
            "SSIM (Gaussian 11, 1.5, unpadded) on RGB averaged down by round(min(H, W) / 256), float",
        )

    def measure(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the SSIM of each pooled image, shape (B,), float64."""
        return pooled_ssim(preds, target)


class PSNRB(ImageMetric):
    """Average PSNR-B in decibels over images (see `psnr_b`).

    Args:
        space: "rgb", "y" (BasicSR's unrounded Y) or "y_rounded" (MATLAB's rounded Y).
        border: pixels left out on each side.

    Raises:
        ValueError: if no such protocol exists.

    Examples:
        >>> import torch
        >>> from trainers.metrics import PSNRB
        >>> target = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16)
        >>> metric = PSNRB()
        >>> round(metric(0.9 * target, target).item(), 4)
        24.7571
        >>> metric.protocol
        'PSNR-B (blocks of 8) on RGB, uint8, border 0'
    """

    higher_is_better = True

    def __init__(self, space: Space = "rgb", border: int = 0) -> None:
        super().__init__(*describe("PSNR-B", " (blocks of 8)", space, border, quantise=True))
        self.space, self.border = space, border

    def measure(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return PSNR-B of each image, shape (B,), float64."""
        return psnr_b(preds, target, space=self.space, border=self.border)
