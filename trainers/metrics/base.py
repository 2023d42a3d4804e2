"""The base of all metrics: the average over images, and the checks of a pair."""

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchmetrics import Metric

PEAK = 255.0


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

    Examples:
        >>> import torch
        >>> from trainers.metrics import ImageMetric
        >>> class MeanError(ImageMetric):
        ...     higher_is_better = False
        ...
        ...     def measure(self, preds, target):
        ...         return (preds - target).abs().double().mean((1, 2, 3))
        >>> metric = MeanError("error", "mean absolute error")
        >>> target = torch.zeros(2, 3, 8, 8)
        >>> metric.update(target + 0.25, target)
        >>> metric.update(target[:1] + 1.0, target[:1])
        >>> round(metric.compute().item(), 4), metric.per_image.tolist()
        (0.5, [1.0])
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


def check_border(border: int) -> None:
    """Refuse a negative border.

    Raises:
        ValueError: if it is one.
    """
    if border < 0:
        raise ValueError(f"border ({border}) must be 0 or more pixels")


def check_images(preds: Tensor, target: Tensor, *, border: int = 0, smallest: int = 1) -> None:
    """Refuse what is no pair of grey or RGB images.

    Args:
        preds: restored images, shape (B, C, H, W) with C = 1 or 3, floating point, finite.
        target: ground truth, same shape, in [0, 1].
        border: pixels that are left out on each side.
        smallest: rows and columns that must remain.

    Raises:
        ValueError: if the tensors are no such images.
    """
    if preds.ndim == 4 and preds.shape == target.shape and preds.shape[1] not in (1, 3):
        raise ValueError(
            f"preds (shape {tuple(preds.shape)}) must be images (B, C, H, W) with C = 1 (grey) or 3 (RGB): measure "
            "cubes of more bands with trainers.metrics.MRAE, RMSE, CubePSNR, SAM, BandPSNR or BandSSIM"
        )
    _check_pair(preds, target, border, smallest)


def check_cubes(preds: Tensor, target: Tensor, *, border: int = 0, smallest: int = 1) -> None:
    """Refuse what is no pair of hyperspectral cubes.

    Args:
        preds: restored cubes, shape (B, C, H, W) with C > 3 bands, floating point, finite.
        target: ground truth, same shape, in [0, 1].
        border: pixels that are left out on each side.
        smallest: rows and columns that must remain.

    Raises:
        ValueError: if the tensors are no such cubes.
    """
    if preds.ndim == 4 and preds.shape == target.shape and preds.shape[1] <= 3:
        raise ValueError(
            f"preds (shape {tuple(preds.shape)}) must be hyperspectral cubes (B, C, H, W) of more than 3 bands: "
            "measure grey and RGB images with trainers.metrics.PSNR and SSIM"
        )
    _check_pair(preds, target, border, smallest)


def _check_pair(preds: Tensor, target: Tensor, border: int, smallest: int) -> None:
    if preds.shape != target.shape:
        raise ValueError(
            f"preds (shape {tuple(preds.shape)}) must have the shape of target, got {tuple(target.shape)}: "
            "crop the padding away, or check the pairs"
        )
    if preds.ndim != 4 or preds.shape[0] == 0:
        raise ValueError(f"preds (shape {tuple(preds.shape)}) must be images (B, C, H, W) with B at least 1")
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


def crop(image: Tensor, border: int) -> Tensor:
    """Leave out `border` pixels on each side: (…, H, W) → (…, H − 2·border, W − 2·border)."""
    return image[..., border : image.shape[-2] - border, border : image.shape[-1] - border]


def levels(image: Tensor, quantise: bool) -> Tensor:
    """Clamp to [0, 1] and scale to levels from 0 to 255, float64; `quantise` rounds as a PNG's writer does."""
    if not quantise:
        return image.double().clamp(0, 1) * PEAK
    # Scaled in float32, as the scripts do: of two levels equally near it must be that of the scripts.
    return (image.to(torch.promote_types(image.dtype, torch.float32)).clamp(0, 1) * PEAK).round().double()
