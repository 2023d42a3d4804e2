"""Metrics of hyperspectral cubes band by band: those of MST for KAIST."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.metrics.base import PEAK, ImageMetric
from trainers.metrics.hyperspectral import prepare_cubes
from trainers.metrics.similarity import RADIUS, SIDE, mean_similarity

Script = Literal["python", "matlab"]

_SCRIPTS: dict[str, tuple[str, str]] = {
    "python": ("", "as MST's Python"),
    "matlab": ("-uint8", "as MST's MATLAB, clamped, uint8"),
}

# MST's Python rounds to 256ths and still takes 255 for white.
_PYTHON_LEVELS = 256


def band_psnr(preds: Tensor, target: Tensor, *, script: Script = "python") -> Tensor:
    """Measure the PSNR of each band and average over the bands, as MST does.

    Args:
        preds: restored cubes, shape (B, C, H, W) with more than 3 bands.
        target: ground truth, same shape, in [0, 1].
        script: "python": values are rounded to 256ths, not clamped, and white is 255 of them; "matlab": clamped to
            [0, 1] and rounded to 8 bits. Where nothing is clamped, "python" reads about 0.03 dB less.

    Returns:
        Decibels, shape (B,), float64; infinite where a band is identical.

    Raises:
        ValueError: if the tensors are no such cubes or there is no such script.

    Examples:
        >>> import torch
        >>> from trainers.metrics import band_psnr
        >>> target = torch.linspace(0.1, 1, 4 * 256).reshape(1, 4, 16, 16)
        >>> round(band_psnr(0.9 * target, target).item(), 4)
        26.131
    """
    _check_script(script)
    preds, target = prepare_cubes(preds, target, 0)
    if script == "python":
        x, y = ((cube * _PYTHON_LEVELS).round() for cube in (preds, target))
    else:
        x, y = _uint8(preds), _uint8(target)
    return (10 * torch.log10(PEAK**2 / (x - y).square().mean((2, 3)))).mean(1)


def band_ssim(preds: Tensor, target: Tensor, *, script: Script = "python") -> Tensor:
    """Measure the structural similarity of each band and average over the bands, as MST does.

    Both scripts use Gaussian windows of 11 × 11 pixels, σ = 1.5.

    Args:
        preds: restored cubes, shape (B, C, H, W) with more than 3 bands.
        target: ground truth, same shape, in [0, 1].
        script: "python": of floats, not clamped, windows reach over the borders into zeros; "matlab": clamped to
            [0, 1], rounded to 8 bits, windows stay inside.

    Returns:
        Shape (B,), float64, at most 1.

    Raises:
        ValueError: as `band_psnr`, or if the cubes have fewer than 11 × 11 pixels for windows inside.

    Examples:
        >>> import torch
        >>> from trainers.metrics import band_ssim
        >>> target = torch.linspace(0.1, 1, 4 * 256).reshape(1, 4, 16, 16)
        >>> round(band_ssim(0.9 * target, target).item(), 4)
        0.9899
    """
    _check_script(script)
    if script == "python":
        x, y = (F.pad(cube, (RADIUS,) * 4) for cube in prepare_cubes(preds, target, 0))
        return mean_similarity(x, y, peak=1.0)
    preds, target = prepare_cubes(preds, target, 0, smallest=SIDE)
    return mean_similarity(_uint8(preds), _uint8(target))


class BandPSNR(ImageMetric):
    """Average the mean PSNR in decibels of the bands over cubes (see `band_psnr`).

    Args:
        script: "python" or "matlab".

    Raises:
        ValueError: if there is no such script.

    Examples:
        >>> import torch
        >>> from trainers.metrics import BandPSNR
        >>> target = torch.linspace(0.1, 1, 4 * 256).reshape(1, 4, 16, 16)
        >>> metric = BandPSNR()
        >>> round(metric(0.9 * target, target).item(), 4)
        26.131
        >>> metric.protocol
        "mean PSNR of the bands, as MST's Python, rounded to 256ths, white 255, unclamped"
    """

    higher_is_better = True

    def __init__(self, script: Script = "python") -> None:
        _check_script(script)
        suffix, kind = _SCRIPTS[script]
        rounding = ", rounded to 256ths, white 255, unclamped" if script == "python" else ""
        super().__init__(f"PSNR-bands{suffix}", f"mean PSNR of the bands, {kind}{rounding}")
        self.script: Script = script

    def measure(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the bands of each cube, shape (B,), float64."""
        return band_psnr(preds, target, script=self.script)


class BandSSIM(ImageMetric):
    """Average the mean structural similarity of the bands over cubes (see `band_ssim`).

    Args:
        script: "python" or "matlab".

    Raises:
        ValueError: if there is no such script.

    Examples:
        >>> import torch
        >>> from trainers.metrics import BandSSIM
        >>> target = torch.linspace(0.1, 1, 4 * 256).reshape(1, 4, 16, 16)
        >>> metric = BandSSIM()
        >>> round(metric(0.9 * target, target).item(), 4)
        0.9899
        >>> metric.protocol
        "mean SSIM (Gaussian 11, 1.5, zero-padded) of the bands, as MST's Python"
    """

    higher_is_better = True

    def __init__(self, script: Script = "python") -> None:
        _check_script(script)
        suffix, kind = _SCRIPTS[script]
        padding = "zero-padded" if script == "python" else "unpadded"
        super().__init__(f"SSIM-bands{suffix}", f"mean SSIM (Gaussian 11, 1.5, {padding}) of the bands, {kind}")
        self.script: Script = script

    def measure(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the bands of each cube, shape (B,), float64."""
        return band_ssim(preds, target, script=self.script)


def _check_script(script: Script) -> None:
    if script not in _SCRIPTS:
        raise ValueError(f"script ({script!r}) must be one of {', '.join(get_args(Script))}")


def _uint8(cube: Tensor) -> Tensor:
    """Levels as MATLAB's `im2uint8` gives them, halves up."""
    return (cube.clamp(0, 1) * PEAK + 0.5).floor()
