"""PSNR and SSIM exactly as the restoration papers' scripts compute them.

A published figure is tied to its protocol: the colour space, whether the image was rounded to 8 bits, and how many
border pixels were left out. Each metric names its protocol, so that a number never travels without it.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torchmetrics import Metric

Space = Literal["rgb", "y", "y_rounded"]

# Suffix of the metric's name, and the space's name in its protocol.
_SPACES: dict[str, tuple[str, str]] = {
    "rgb": ("", "RGB"),
    "y": ("-Y", "BasicSR's unrounded Y"),
    "y_rounded": ("-Y-rounded", "MATLAB's rounded Y"),
}

_PEAK = 255.0

# Y of ITU-R BT.601 in studio range (16 to 235), times 1000: with integer weights the sums over 8-bit levels are exact
# in floating point, so that a Y halfway between two levels is rounded up on every machine.
_LUMA_WEIGHTS = (65481.0, 128553.0, 24966.0)

_WINDOW_RADIUS, _WINDOW_SIGMA = 5, 1.5
_GAUSSIAN = [math.exp(-((i - _WINDOW_RADIUS) ** 2) / (2 * _WINDOW_SIGMA**2)) for i in range(2 * _WINDOW_RADIUS + 1)]
_WINDOW = [weight / sum(_GAUSSIAN) for weight in _GAUSSIAN]

# Rows of the SSIM map computed at once.
_STRIP = 64


def luma(image: Tensor, *, rounded: bool = False) -> Tensor:
    """Take Y of ITU-R BT.601 in studio range: Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255.

    Unrounded it is BasicSR's Y, rounded it is that of MATLAB's `rgb2ycbcr` for uint8 images. On high PSNRs the
    unrounded one reads up to 0.85 dB more.

    Args:
        image: levels from 0 to 255, shape (B, 3, H, W), or (B, 1, H, W), which both scripts take as Y as it stands.
        rounded: round to whole levels, halves up.

    Returns:
        Levels, shape (B, 1, H, W), float64.
    """
    image = image.double()
    if image.shape[1] == 1:
        return image
    y = 16 + (image * image.new_tensor(_LUMA_WEIGHTS).view(3, 1, 1)).sum(1, keepdim=True) / 255000
    return (y + 0.5).floor() if rounded else y


def psnr(preds: Tensor, target: Tensor, *, space: Space = "rgb", border: int = 0, quantise: bool = True) -> Tensor:
    """Measure the peak signal-to-noise ratio of each image: 10 log10(255² / mean squared error).

    Args:
        preds: restored images, shape (B, C, H, W) with C = 1 or 3, values in [0, 1].
        target: ground truth, same shape and range.
        space: "rgb", the mean over all channels; "y", BasicSR's Y; "y_rounded", MATLAB's Y (see `luma`).
        border: pixels left out on each side (the scale factor, in super-resolution).
        quantise: clamp to [0, 1] and round to 8 bits first, as an image saved as PNG is.

    Returns:
        Decibels, shape (B,), float64; infinite where the images are identical.

    Raises:
        ValueError: if the tensors are no such images (shape, empty, type, NaN or infinite, a target outside [0, 1]),
            or no such protocol exists.
    """
    preds, target = _prepare(preds, target, space, border, quantise)
    return 10 * torch.log10(_PEAK**2 / (preds - target).square().mean((1, 2, 3)))


def ssim(preds: Tensor, target: Tensor, *, space: Space = "rgb", border: int = 0, quantise: bool = True) -> Tensor:
    """Measure the structural similarity of each image, the mean over channels and windows.

    Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity (2004), Eq. (13), with a
    Gaussian window of 11 × 11 pixels and σ = 1.5 that stays inside the image, C1 = (0.01·255)², C2 = (0.03·255)².

    Args:
        preds: restored images, shape (B, C, H, W) with C = 1 or 3, values in [0, 1].
        target: ground truth, same shape and range.
        space: as in `psnr`.
        border: pixels left out on each side; at least 11 × 11 must remain.
        quantise: as in `psnr`.

    Returns:
        Shape (B,), float64, at most 1.

    Raises:
        ValueError: as `psnr`, or if the images are smaller than the window.
    """
    x, y = _prepare(preds, target, space, border, quantise, smallest=len(_WINDOW))
    height = x.shape[-2] - 2 * _WINDOW_RADIUS
    total = x.new_zeros(len(x))
    # In strips, whose maps stay in the cache: 5 times faster than whole images at 1080 × 1920, and memory is bounded.
    for top in range(0, height, _STRIP):
        rows = slice(top, top + _STRIP + 2 * _WINDOW_RADIUS)
        total = total + _similarity(x[..., rows, :], y[..., rows, :]).mean((1, 3)).sum(1)
    return total / height


class ImageMetric(Metric):
    """Average a value per image over all images of all updates and processes, whatever their sizes.

    A further protocol is a subclass with `measure` and `higher_is_better`. Sums are float64, whatever precision the
    module that holds the metric is converted to. An infinite value (the PSNR of identical images) makes the mean
    infinite, as in the papers' scripts: `per_image` shows which image it was.

    Args:
        name: short name for a table's column.
        protocol: what is measured, on what, in words; it goes wherever the value goes.

    Attributes:
        per_image: the values of the last update, shape (B,), float64.
    """

    is_differentiable = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, name: str, protocol: str) -> None:
        super().__init__()
        self.name = name
        self.protocol = protocol
        self.per_image = torch.empty(0, dtype=torch.float64)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @abstractmethod
    def measure(self, preds: Tensor, target: Tensor) -> Tensor:
        """Measure each image: (B, C, H, W) twice in, (B,) float64 out."""

    @torch.no_grad()
    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch of images.

        Args:
            preds: restored images, shape (B, C, H, W).
            target: ground truth, same shape.
        """
        self.per_image = self.measure(preds, target)
        # Not in place: Lightning resets metrics under inference mode, and such a tensor refuses to be changed later.
        self.total = self.total + self.per_image.sum()
        self.count = self.count + self.per_image.numel()

    def compute(self) -> Tensor:
        """Return the mean over all images so far, a float64 scalar."""
        return self.total / self.count

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        # torchmetrics lets `.to(torch.bfloat16)` (Lightning's "bf16-true") round its states: these may only move.
        return super()._apply(lambda state: state.to(fn(state).device), exclude_state)


class PSNR(ImageMetric):
    """Average the PSNR in decibels over images (see `psnr`).

    Args:
        space: "rgb", "y" (BasicSR's unrounded Y) or "y_rounded" (MATLAB's rounded Y).
        border: pixels left out on each side.
        quantise: clamp to [0, 1] and round to 8 bits first.

    Raises:
        ValueError: if no such protocol exists.
    """

    higher_is_better = True

    def __init__(self, space: Space = "rgb", border: int = 0, quantise: bool = True) -> None:
        super().__init__(*_describe("PSNR", "", space, border, quantise))
        self.space, self.border, self.quantise = space, border, quantise

    def measure(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the PSNR of each image, shape (B,), float64."""
        return psnr(preds, target, space=self.space, border=self.border, quantise=self.quantise)


class SSIM(ImageMetric):
    """Average the structural similarity over images (see `ssim`).

    Args:
        space: "rgb", "y" (BasicSR's unrounded Y) or "y_rounded" (MATLAB's rounded Y).
        border: pixels left out on each side.
        quantise: clamp to [0, 1] and round to 8 bits first.

    Raises:
        ValueError: if no such protocol exists.
    """

    higher_is_better = True

    def __init__(self, space: Space = "rgb", border: int = 0, quantise: bool = True) -> None:
        super().__init__(*_describe("SSIM", " (Gaussian 11, 1.5, unpadded)", space, border, quantise))
        self.space, self.border, self.quantise = space, border, quantise

    def measure(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the SSIM of each image, shape (B,), float64."""
        return ssim(preds, target, space=self.space, border=self.border, quantise=self.quantise)


def _describe(quantity: str, detail: str, space: Space, border: int, quantise: bool) -> tuple[str, str]:
    """Return a metric's short name and its protocol in words."""
    _check_protocol(space, border, quantise)
    suffix, label = _SPACES[space]
    return quantity + suffix, f"{quantity}{detail} on {label}, {'uint8' if quantise else 'float'}, border {border}"


def _check_protocol(space: Space, border: int, quantise: bool) -> None:
    if space not in _SPACES:
        raise ValueError(f"space ({space!r}) must be one of {', '.join(get_args(Space))}")
    if border < 0:
        raise ValueError(f"border ({border}) must be 0 or more pixels")
    if space == "y_rounded" and not quantise:
        raise ValueError(
            "quantise (False) must be True for space 'y_rounded', which rounds 8-bit images: use space 'y' for floats"
        )


def _check_images(preds: Tensor, target: Tensor, border: int, smallest: int) -> None:
    if preds.shape != target.shape:
        raise ValueError(
            f"preds (shape {tuple(preds.shape)}) must have the shape of target, got {tuple(target.shape)}: "
            "crop the padding away, or check the pairs"
        )
    if preds.ndim != 4 or preds.shape[1] not in (1, 3) or preds.shape[0] == 0:
        raise ValueError(
            f"preds (shape {tuple(preds.shape)}) must be images (B, C, H, W) with B at least 1 and C = 1 (grey) or "
            "3 (RGB): other channels need a metric of their own"
        )
    height, width = preds.shape[-2:]
    if min(height, width) - 2 * border < smallest:
        raise ValueError(
            f"preds (height {height}, width {width}) must leave at least {smallest} × {smallest} pixels "
            f"inside a border of {border}: use larger images or a smaller border"
        )
    for name, image in (("preds", preds), ("target", target)):
        if not image.is_floating_point():
            raise ValueError(f"{name} ({image.dtype}) must be floating point in [0, 1]: divide 8-bit images by 255")
        if not image.isfinite().all():
            raise ValueError(f"{name} must be finite, got NaN or infinite values: the network or the image is broken")
    # Only the target's: a network's output may overshoot.
    low, high = target.min().item(), target.max().item()
    if low < 0 or high > 1:
        raise ValueError(f"target must lie in [0, 1], got {low:.4g} to {high:.4g}: rescale both images")


def _prepare(
    preds: Tensor, target: Tensor, space: Space, border: int, quantise: bool, smallest: int = 1
) -> tuple[Tensor, Tensor]:
    """Check both images and bring them to float64 levels from 0 to 255 in `space`, without their border."""
    _check_protocol(space, border, quantise)
    _check_images(preds, target, border, smallest)

    def prepare(image: Tensor) -> Tensor:
        image = image[..., border : image.shape[-2] - border, border : image.shape[-1] - border]
        if quantise:
            # Scaled in float32, as the scripts do: the nearest level must be theirs for values halfway between two.
            image = (image.to(torch.promote_types(image.dtype, torch.float32)).clamp(0, 1) * _PEAK).round().double()
        else:
            image = image.double() * _PEAK
        return image if space == "rgb" else luma(image, rounded=space == "y_rounded")

    return prepare(preds), prepare(target)


def _similarity(x: Tensor, y: Tensor) -> Tensor:
    """Compare two images in every window that fits: (B, C, H, W) twice → (B, C, H - 10, W - 10)."""
    mean_x, mean_y = _smooth(x), _smooth(y)
    variances = _smooth(x * x) - mean_x**2 + _smooth(y * y) - mean_y**2
    covariance = _smooth(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance * (2 * covariance + c2) / (variances + c2)


def _smooth(image: Tensor) -> Tensor:
    """Filter by the Gaussian window without padding: (B, C, H, W) → (B, C, H - 10, W - 10)."""
    # Shifted sums: in float64 on the CPU they are several times faster than two 1-d `conv2d`.
    for dim in (-2, -1):
        size = image.shape[dim] - 2 * _WINDOW_RADIUS
        smooth = torch.zeros_like(image.narrow(dim, 0, size))
        for offset, weight in enumerate(_WINDOW):
            smooth.add_(image.narrow(dim, offset, size), alpha=weight)
        image = smooth
    return image
