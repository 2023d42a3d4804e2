"""Data sets of image restoration: pairs on disk, and photographs degraded as they are read."""

from datamodules.base import PairedImageDataModule, RestorationDataModule
from datamodules.demo import DemoDataModule
from datamodules.errors import DataError
from datamodules.folders import PairedFolderDataModule
from datamodules.gopro import GoProDataModule
from datamodules.paired import PairedImageDataset
from datamodules.rain13k import Rain13kDataModule
from datamodules.reside import RESIDEDataModule
from datamodules.transforms import PairedTransform

__all__ = [
    "DataError",
    "DemoDataModule",
    "GoProDataModule",
    "PairedFolderDataModule",
    "PairedImageDataModule",
    "PairedImageDataset",
    "PairedTransform",
    "RESIDEDataModule",
    "Rain13kDataModule",
    "RestorationDataModule",
]
