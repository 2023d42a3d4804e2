"""A degraded image and its clean one: matched, read, cut, made."""

from datamodules.pairs.dataset import PairedImageDataset
from datamodules.pairs.matching import Pairs
from datamodules.pairs.transforms import PairedTransform

__all__ = ["PairedImageDataset", "PairedTransform", "Pairs"]
