"""The benchmarks' metrics, each exactly as the papers' scripts compute it.

A published figure is tied to its protocol: the colour space, whether the image was rounded to 8 bits, and how many
border pixels were left out. Each metric names its protocol, so that a number never travels without it.
"""

from trainers.metrics.alignment import Aligned, AlignedPSNR, AlignedSSIM, align, aligned_psnr, aligned_ssim
from trainers.metrics.bands import BandPSNR, BandSSIM, band_psnr, band_ssim
from trainers.metrics.base import ImageMetric
from trainers.metrics.benchmark_variants import PSNRB, SSIM3D, PooledSSIM, pooled_ssim, psnr_b, ssim_3d
from trainers.metrics.conversion import as_images
from trainers.metrics.hyperspectral import (
    MRAE,
    RMSE,
    SAM,
    CubePSNR,
    cube_psnr,
    mrae,
    rmse,
    sam,
)
from trainers.metrics.learned.perceptual import DISTS, LPIPS, NIQE
from trainers.metrics.protocols import Protocol, protocol_metrics
from trainers.metrics.psnr_ssim import PSNR, SSIM, Space, luma, psnr, ssim
from trainers.metrics.temporal import flicker

__all__ = [
    "DISTS",
    "LPIPS",
    "MRAE",
    "NIQE",
    "PSNR",
    "PSNRB",
    "RMSE",
    "SAM",
    "SSIM",
    "SSIM3D",
    "Aligned",
    "AlignedPSNR",
    "AlignedSSIM",
    "BandPSNR",
    "BandSSIM",
    "CubePSNR",
    "ImageMetric",
    "PooledSSIM",
    "Protocol",
    "Space",
    "align",
    "aligned_psnr",
    "aligned_ssim",
    "as_images",
    "band_psnr",
    "band_ssim",
    "cube_psnr",
    "flicker",
    "luma",
    "mrae",
    "pooled_ssim",
    "protocol_metrics",
    "psnr",
    "psnr_b",
    "rmse",
    "sam",
    "ssim",
    "ssim_3d",
]
