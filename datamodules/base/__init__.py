"""Bases of data modules: parts of training, validation and test, published layouts and counts."""

from datamodules.base.benchmark import BenchmarkDataModule
from datamodules.base.paired import PairedImageDataModule
from datamodules.base.restoration import RestorationDataModule

__all__ = ["BenchmarkDataModule", "PairedImageDataModule", "RestorationDataModule"]
