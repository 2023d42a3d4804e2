"""PSNR and SSIM of grey and RGB images exactly as the restoration papers' scripts compute them."""

from typing import Literal, get_args

import torch
from torch import Tensor

from trainers.metrics.base import PEAK, ImageMetric, check_border, check_images, crop, levels
from trainers.metrics.similarity import SIDE, mean_similarity

Space = Literal["rgb", "y", "y_rounded"]

# Suffix of the metric's name, and the space's name in its protocol.
_SPACES: dict[str, tuple[str, str]] = {
    "rgb": ("", "RGB"),
    "y": ("-Y", "BasicSR's unrounded Y"),
    "y_rounded": ("-Y-rounded", "MATLAB's rounded Y"),
}

# Y of ITU-R BT.601 in studio range (16 to 235), times 1000: with integer weights the sums over 8-bit levels are exact
# in floating point, so that a Y halfway between two levels is rounded up on every machine.
_LUMA_WEIGHTS = (65481.0, 128553.0, 24966.0)


def luma(image: Tensor, *, rounded: bool = False) -> Tensor:
    """Take Y of ITU-R BT.601 in studio range: Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255.

    Unrounded it is BasicSR's Y, rounded it is that of MATLAB's `rgb2ycbcr` for uint8 images. On high PSNRs the
    unrounded one reads up to 0.85 dB more.

    Args:
        image: levels from 0 to 255, shape (B, 3, H, W), or (B, 1, H, W), which both scripts take as Y as it stands.
        rounded: round to whole levels, halves up.

    Returns:
        Levels, shape (B, 1, H, W), float64.

    Examples:
        >>> import torch
        >>> from trainers.metrics import luma
        >>> white = torch.full((1, 3, 1, 1), 255.0)
        >>> luma(white).item()
        235.0
    """
    image = image.double()
    if image.shape[1] == 1:
        return image
    y = 16 + (image * image.new_tensor(_LUMA_WEIGHTS).view(3, 1, 1)).sum(1, keepdim=True) / 255000
    return (y + 0.5).floor() if rounded else y


def psnr(preds: Tensor, target: Tensor, *, space: Space = "rgb", border: int = 0, quantise: bool = True) -> Tensor:
    """Measure the peak signal-to-noise ratio of each image: 10 log10(255² / mean squared error).

    Args:
        preds: restored images, shape (B, C, H, W) with C = 1 or 3; clamped to [0, 1], as every script does.
        target: ground truth, same shape, in [0, 1].
        space: "rgb", the mean over all channels; "y", BasicSR's Y; "y_rounded", MATLAB's Y (see `luma`).
        border: pixels left out on each side (the scale factor, in super-resolution).
        quantise: round to 8 bits first, as an image saved as PNG is.

    Returns:
        Decibels, shape (B,), float64; infinite where the images are identical.

    Raises:
        ValueError: if the tensors are no such images (shape, empty, type, NaN or infinite, a target outside [0, 1]),
            or no such protocol exists.

    Examples:
        >>> import torch
        >>> from trainers.metrics import psnr
        >>> target = torch.full((1, 3, 16, 16), 0.5)
        >>> round(psnr(target + 0.1, target, quantise=False).item(), 3)
        20.0
    """
    preds, target = prepare(preds, target, space=space, border=border, quantise=quantise)
    return 10 * torch.log10(PEAK**2 / (preds - target).square().mean((1, 2, 3)))


def ssim(preds: Tensor, target: Tensor, *, space: Space = "rgb", border: int = 0, quantise: bool = True) -> Tensor:
    """Measure the structural similarity of each image, the mean over channels and windows.

    Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity (2004), Eq. (13), with a
    Gaussian window of 11 × 11 pixels and σ = 1.5 that stays inside the image, C1 = (0.01·255)², C2 = (0.03·255)².

    Args:
        preds: restored images, shape (B, C, H, W) with C = 1 or 3; clamped to [0, 1].
        target: ground truth, same shape, in [0, 1].
        space: as in `psnr`.
        border: pixels left out on each side; at least 11 × 11 must remain.
        quantise: as in `psnr`.

    Returns:
        Shape (B,), float64, at most 1.

    Raises:
        ValueError: as `psnr`, or if the images are smaller than the window.

    Examples:
        >>> import torch
        >>> from trainers.metrics import ssim
        >>> target = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16)
        >>> round(ssim(0.9 * target, target).item(), 4)
        0.9891
    """
    return mean_similarity(
        *prepare(preds, target, space=space, border=border, quantise=quantise, smallest=SIDE),
    )


class PSNR(ImageMetric):
    """Average the PSNR in decibels over images (see `psnr`).

    Args:
        space: "rgb", "y" (BasicSR's unrounded Y) or "y_rounded" (MATLAB's rounded Y).
        border: pixels left out on each side.
        quantise: round to 8 bits first.

    Raises:
        ValueError: if no such protocol exists.

    Examples:
        >>> import torch
        >>> from trainers.metrics import PSNR
        >>> target = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16)
        >>> metric = PSNR(border=2)
        >>> round(metric(0.9 * target, target).item(), 4)
        25.2632
        >>> metric.protocol
        'PSNR on RGB, uint8, border 2'
    """

    higher_is_better = True

    def __init__(self, space: Space = "rgb", border: int = 0, quantise: bool = True) -> None:
        super().__init__(*describe("PSNR", "", space, border, quantise))
        self.space, self.border, self.quantise = space, border, quantise

    def measure(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the PSNR of each image, shape (B,), float64."""
        return psnr(preds, target, space=self.space, border=self.border, quantise=self.quantise)


class SSIM(ImageMetric):
    """Average the structural similarity over images (see `ssim`).

    Args:
        space: "rgb", "y" (BasicSR's unrounded Y) or "y_rounded" (MATLAB's rounded Y).
        border: pixels left out on each side.
        quantise: round to 8 bits first.

    Raises:
        ValueError: if no such protocol exists.

    Examples:
        >>> import torch
        >>> from trainers.metrics import SSIM
        >>> target = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16)
        >>> metric = SSIM()
        >>> round(metric(0.9 * target, target).item(), 4)
        0.9891
        >>> metric.protocol
        'SSIM (Gaussian 11, 1.5, unpadded) on RGB, uint8, border 0'
    """

    higher_is_better = True

    def __init__(self, space: Space = "rgb", border: int = 0, quantise: bool = True) -> None:
        super().__init__(*describe("SSIM", " (Gaussian 11, 1.5, unpadded)", space, border, quantise))
        self.space, self.border, self.quantise = space, border, quantise

    def measure(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the SSIM of each image, shape (B,), float64."""
        return ssim(preds, target, space=self.space, border=self.border, quantise=self.quantise)


def describe(quantity: str, detail: str, space: Space, border: int, quantise: bool) -> tuple[str, str]:
    """Return a metric's short name and its protocol in words.

    Raises:
        ValueError: if no such protocol exists.
    """
    _check_protocol(space, border, quantise)
    suffix, label = _SPACES[space]
    return quantity + suffix, f"{quantity}{detail} on {label}, {'uint8' if quantise else 'float'}, border {border}"


def prepare(
    preds: Tensor, target: Tensor, *, space: Space = "rgb", border: int = 0, quantise: bool = True, smallest: int = 1
) -> tuple[Tensor, Tensor]:
    """Check both images and bring them to float64 levels from 0 to 255 in `space`, without their border.

    Raises:
        ValueError: as `psnr`, or if fewer than `smallest` rows or columns remain.
    """
    _check_protocol(space, border, quantise)
    check_images(preds, target, border=border, smallest=smallest)
    both = (levels(crop(image, border), quantise) for image in (preds, target))
    if space == "rgb":
        x, y = both
    else:
        x, y = (luma(image, rounded=space == "y_rounded") for image in both)
    return x, y


def _check_protocol(space: Space, border: int, quantise: bool) -> None:
    if space not in _SPACES:
        raise ValueError(f"space ({space!r}) must be one of {', '.join(get_args(Space))}")
    check_border(border)
    if space == "y_rounded" and not quantise:
        raise ValueError(
            "quantise (False) must be True for space 'y_rounded', which rounds 8-bit images: use space 'y' for floats"
        )
