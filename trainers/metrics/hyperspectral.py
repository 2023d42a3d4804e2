"""Metrics of whole hyperspectral cubes: those of MST++ for ARAD_1K, and the spectral angle."""

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.metrics.base import ImageMetric, check_border, check_cubes, crop


def mrae(preds: Tensor, target: Tensor, *, border: int = 0, floor: float = 0.0) -> Tensor:
    """Measure the mean relative absolute error of each cube: mean of |preds − target| / target.

    Args:
        preds: restored cubes, shape (B, C, H, W) with more than 3 bands; not clamped.
        target: ground truth, same shape, in [0, 1].
        border: pixels left out on each side: 128 on ARAD_1K.
        floor: smaller labels are divided by as if they were this. 0: labels of zero are left out. With a floor of 1e-8,
            which MST++'s sources offer too, a few black pixels outweigh all others.

    Returns:
        Shape (B,), float64, finite.

    Raises:
        ValueError: if the tensors are no such cubes (shape, empty, type, NaN or infinite, a target outside [0, 1]), an
            option is negative, or a cube has no label to divide by.

    Examples:
        >>> import torch
        >>> from trainers.metrics import mrae
        >>> target = torch.linspace(0.1, 1, 4 * 256).reshape(1, 4, 16, 16)
        >>> round(mrae(0.9 * target, target).item(), 4)
        0.1
    """
    _check_floor(floor)
    preds, target = prepare_cubes(preds, target, border)
    label = target.clamp_min(floor)
    counted = label > 0
    count = counted.sum((1, 2, 3))
    if not count.all():
        raise ValueError("target must have a value above 0 in each cube, got a black cube: leave it out, or set floor")
    error = ((preds - target).abs() / torch.where(counted, label, 1.0)).where(counted, 0.0)
    return error.sum((1, 2, 3)) / count


def rmse(preds: Tensor, target: Tensor, *, border: int = 0) -> Tensor:
    """Measure the root mean squared error of each cube.

    Args:
        preds: restored cubes, shape (B, C, H, W) with more than 3 bands; not clamped.
        target: ground truth, same shape, in [0, 1].
        border: pixels left out on each side: 128 on ARAD_1K.

    Returns:
        Shape (B,), float64, in units of white.

    Raises:
        ValueError: if the tensors are no such cubes or the border is negative.

    Examples:
        >>> import torch
        >>> from trainers.metrics import rmse
        >>> target = torch.linspace(0.1, 1, 4 * 256).reshape(1, 4, 16, 16)
        >>> round(rmse(0.9 * target, target).item(), 4)
        0.0608
    """
    preds, target = prepare_cubes(preds, target, border)
    return (preds - target).square().mean((1, 2, 3)).sqrt()


def cube_psnr(preds: Tensor, target: Tensor, *, border: int = 0) -> Tensor:
    """Measure the PSNR of each cube as a whole, not rounded, as MST++ does.

    Args:
        preds: restored cubes, shape (B, C, H, W) with more than 3 bands; clamped to [0, 1].
        target: ground truth, same shape, in [0, 1].
        border: pixels left out on each side: 128 on ARAD_1K.

    Returns:
        Decibels, shape (B,), float64; infinite where the cubes are identical.

    Raises:
        ValueError: as `rmse`.

    Examples:
        >>> import torch
        >>> from trainers.metrics import cube_psnr
        >>> target = torch.linspace(0.1, 1, 4 * 256).reshape(1, 4, 16, 16)
        >>> round(cube_psnr(0.9 * target, target).item(), 4)
        24.3164
    """
    preds, target = prepare_cubes(preds, target, border)
    return -10 * torch.log10((preds.clamp(0, 1) - target).square().mean((1, 2, 3)))


def sam(preds: Tensor, target: Tensor, *, border: int = 0) -> Tensor:
    """Measure the mean angle between the spectra of each cube (spectral angle mapper).

    Kruse et al., The Spectral Image Processing System (1993). The brightness of a pixel does not count. A black pixel
    is at 90° from every spectrum that is not black.

    Args:
        preds: restored cubes, shape (B, C, H, W) with more than 3 bands; not clamped.
        target: ground truth, same shape, in [0, 1].
        border: pixels left out on each side.

    Returns:
        Degrees, shape (B,), float64, from 0 to 180.

    Raises:
        ValueError: as `rmse`.

    Examples:
        >>> import torch
        >>> from trainers.metrics import sam
        >>> target = torch.linspace(0.1, 1, 4 * 256).reshape(1, 4, 16, 16)
        >>> round(sam(target.flip(1), target).item(), 4)
        49.7068
    """
    x, y = (
        F.normalize(cube, dim=1, eps=torch.finfo(torch.float64).tiny) for cube in prepare_cubes(preds, target, border)
    )
    # Not the arc cosine of the product, which rounds small angles off.
    angles = 2 * torch.atan2((x - y).norm(dim=1), (x + y).norm(dim=1))
    return angles.rad2deg().mean((1, 2))


class MRAE(ImageMetric):
    """Average the mean relative absolute error over cubes (see `mrae`).

    Args:
        border: pixels left out on each side.
        floor: smallest label divided by; 0: labels of zero are left out.

    Raises:
        ValueError: if one of them is negative.

    Examples:
        >>> import torch
        >>> from trainers.metrics import MRAE
        >>> target = torch.linspace(0.1, 1, 4 * 256).reshape(1, 4, 16, 16)
        >>> metric = MRAE()
        >>> round(metric(0.9 * target, target).item(), 4)
        0.1
        >>> metric.protocol
        'MRAE of cubes, unclamped, without labels of zero, border 0'
    """

    higher_is_better = False

    def __init__(self, border: int = 0, floor: float = 0.0) -> None:
        check_border(border)
        _check_floor(floor)
        zeros = f"labels at least {floor:g}" if floor else "without labels of zero"
        super().__init__("MRAE", f"MRAE of cubes, unclamped, {zeros}, border {border}")
        self.border, self.floor = border, floor

    def measure(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the error of each cube, shape (B,), float64."""
        return mrae(preds, target, border=self.border, floor=self.floor)


class RMSE(ImageMetric):
    """Average the root mean squared error over cubes (see `rmse`).

    Args:
        border: pixels left out on each side.

    Raises:
        ValueError: if it is negative.

    Examples:
        >>> import torch
        >>> from trainers.metrics import RMSE
        >>> target = torch.linspace(0.1, 1, 4 * 256).reshape(1, 4, 16, 16)
        >>> metric = RMSE()
        >>> round(metric(0.9 * target, target).item(), 4)
        0.0608
        >>> metric.protocol
        'RMSE of cubes, unclamped, white is 1, border 0'
    """

    higher_is_better = False

    def __init__(self, border: int = 0) -> None:
        check_border(border)
        super().__init__("RMSE", f"RMSE of cubes, unclamped, white is 1, border {border}")
        self.border = border

    def measure(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the error of each cube, shape (B,), float64."""
        return rmse(preds, target, border=self.border)


class CubePSNR(ImageMetric):
    """Average the PSNR in decibels of whole cubes (see `cube_psnr`).

    Args:
        border: pixels left out on each side.

    Raises:
        ValueError: if it is negative.

    Examples:
        >>> import torch
        >>> from trainers.metrics import CubePSNR
        >>> target = torch.linspace(0.1, 1, 4 * 256).reshape(1, 4, 16, 16)
        >>> metric = CubePSNR()
        >>> round(metric(0.9 * target, target).item(), 4)
        24.3164
        >>> metric.protocol
        'PSNR over all bands of a cube at once, clamped, float, border 0'
    """

    higher_is_better = True

    def __init__(self, border: int = 0) -> None:
        check_border(border)
        super().__init__("PSNR-cube", f"PSNR over all bands of a cube at once, clamped, float, border {border}")
        self.border = border

    def measure(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the PSNR of each cube, shape (B,), float64."""
        return cube_psnr(preds, target, border=self.border)


class SAM(ImageMetric):
    """Average the spectral angle in degrees over cubes (see `sam`).

    Args:
        border: pixels left out on each side.

    Raises:
        ValueError: if it is negative.

    Examples:
        >>> import torch
        >>> from trainers.metrics import SAM
        >>> target = torch.linspace(0.1, 1, 4 * 256).reshape(1, 4, 16, 16)
        >>> metric = SAM()
        >>> round(metric(target.flip(1), target).item(), 4)
        49.7068
        >>> metric.protocol
        'spectral angle in degrees, mean over pixels, unclamped, float, border 0'
    """

    higher_is_better = False

    def __init__(self, border: int = 0) -> None:
        check_border(border)
        super().__init__("SAM", f"spectral angle in degrees, mean over pixels, unclamped, float, border {border}")
        self.border = border

    def measure(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the mean angle of each cube, shape (B,), float64."""
        return sam(preds, target, border=self.border)


def _check_floor(floor: float) -> None:
    if not floor >= 0:
        raise ValueError(f"floor ({floor}) must be 0 or more, in units of white")


def prepare_cubes(preds: Tensor, target: Tensor, border: int, smallest: int = 1) -> tuple[Tensor, Tensor]:
    """Check both cubes and bring them to float64, without their border."""
    check_border(border)
    check_cubes(preds, target, border=border, smallest=smallest)
    return crop(preds, border).double(), crop(target, border).double()
