from .base.paired import PairedImageDataModule as PairedImageDataModule
from .base.restoration import RestorationDataModule as RestorationDataModule
from .demo.restoration import DemoDataModule as DemoDataModule
from .demo.spectral import SpectralDemoDataModule as SpectralDemoDataModule
from .errors import DataError as DataError
from .loading.stages import Stage as Stage
from .pairs.dataset import PairedImageDataset as PairedImageDataset
from .pairs.transforms import PairedTransform as PairedTransform
from .restoration.denoising import GaussianDenoisingDataModule as GaussianDenoisingDataModule
from .restoration.denoising import JPEGDataModule as JPEGDataModule
from .restoration.folders import DegradedFolderDataModule as DegradedFolderDataModule
from .restoration.folders import PairedFolderDataModule as PairedFolderDataModule
from .restoration.gopro import GoProDataModule as GoProDataModule
from .restoration.rain13k import Rain13kDataModule as Rain13kDataModule
from .restoration.realblur import RealBlurDataModule as RealBlurDataModule
from .restoration.reside import RESIDEDataModule as RESIDEDataModule
from .restoration.sidd import SIDDDataModule as SIDDDataModule
from .restoration.super_resolution import SuperResolutionDataModule as SuperResolutionDataModule
from .spectral.cave_kaist import CASSIDataModule as CASSIDataModule
from .spectral.ntire2022 import NTIRE2022DataModule as NTIRE2022DataModule

__all__ = [
    "CASSIDataModule",
    "DataError",
    "DegradedFolderDataModule",
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
