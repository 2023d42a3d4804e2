"""The benchmarks' protocols by name: which metrics published figures of images are measured with."""

from typing import Literal, get_args

from trainers.metrics.alignment import AlignedPSNR, AlignedSSIM
from trainers.metrics.base import ImageMetric
from trainers.metrics.benchmark_variants import PSNRB, SSIM3D, PooledSSIM
from trainers.metrics.psnr_ssim import PSNR, SSIM

Protocol = Literal["deraining", "super_resolution", "denoising", "jpeg", "gopro", "sidd", "realblur", "sots"]
"""Benchmarks of images. (Cubes of spectra are evaluated by their recipes.)"""


def protocol_metrics(protocol: Protocol, scale: int | None = None) -> list[ImageMetric]:
    """Make the metrics of a benchmark, as the recipes in `configs/eval` have them.

    Args:
        protocol: the benchmark: deraining (MATLAB's Y), super_resolution (BasicSR's Y without a border of `scale`
            pixels), denoising, jpeg (with PSNR-B), gopro (HIDE as well), sidd, realblur (aligned and not), or sots
            (RS-Haze as well).
        scale: factor of super-resolution, >= 1; None for the others.

    Returns:
        The metrics, PSNR first.

    Raises:
        ValueError: if the protocol is unknown, or `scale` is missing or given where it has no meaning.

    Examples:
        >>> from trainers.metrics import protocol_metrics
        >>> [metric.protocol for metric in protocol_metrics("super_resolution", scale=4)][0]
        "PSNR on BasicSR's unrounded Y, uint8, border 4"
    """
    if protocol not in get_args(Protocol):
        raise ValueError(f"protocol ({protocol}) must be one of {', '.join(get_args(Protocol))}")
    if protocol == "super_resolution":
        if scale is None or scale < 1:
            raise ValueError(
                f"scale ({scale}) must be the factor of super_resolution, at least 1, whose border is left out; "
                "give it, such as --scale 4"
            )
        return [PSNR("y", scale), SSIM("y", scale)]
    if scale is not None:
        raise ValueError(f"scale ({scale}) must be given with protocol super_resolution only, got {protocol}")
    match protocol:
        case "deraining":
            return [PSNR("y_rounded"), SSIM("y_rounded")]
        case "denoising":
            return [PSNR(), SSIM()]
        case "jpeg":
            return [PSNR(), SSIM(), PSNRB()]
        case "gopro":
            return [PSNR(), SSIM3D()]
        case "sidd":
            return [PSNR(quantise=False), SSIM3D(quantise=False)]
        case "realblur":
            return [AlignedPSNR(), AlignedSSIM(), PSNR(), SSIM()]
        case "sots":
            return [PSNR(quantise=False), PooledSSIM()]
