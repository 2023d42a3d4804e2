"""Data sets of image restoration: pairs on disk, and photographs degraded as they are read."""

from datamodules.base import PairedImageDataModule, RestorationDataModule
from datamodules.cassi_scenes import CASSIDataModule
from datamodules.demo import DemoDataModule
from datamodules.denoising import GaussianDenoisingDataModule, JPEGDataModule
from datamodules.errors import DataError
from datamodules.folders import PairedFolderDataModule
from datamodules.gopro import GoProDataModule
from datamodules.loaders import Stage
from datamodules.ntire2022 import NTIRE2022DataModule
from datamodules.paired import PairedImageDataset
from datamodules.rain13k import Rain13kDataModule
from datamodules.realblur import RealBlurDataModule
from datamodules.reside import RESIDEDataModule
from datamodules.sidd import SIDDDataModule
from datamodules.spectral_demo import SpectralDemoDataModule
from datamodules.super_resolution import SuperResolutionDataModule
from datamodules.transforms import PairedTransform

__all__ = [
    "CASSIDataModule",
    "DataError",
    "DemoDataModule",
    "GaussianDenoisingDataModule",
    "GoProDataModule",
    "JPEGDataModule",
    "NTIRE2022DataModule",
    "PairedFolderDataModule",
    "PairedImageDataModule",
    "PairedImageDataset",
    "PairedTransform",
    "RESIDEDataModule",
    "Rain13kDataModule",
    "RealBlurDataModule",
    "RestorationDataModule",
    "SIDDDataModule",
    "SpectralDemoDataModule",
    "Stage",
    "SuperResolutionDataModule",
]
