from .base.paired import PairedImageDataModule as PairedImageDataModule
from .base.restoration import RestorationDataModule as RestorationDataModule
from .demo.clips import demo_clip as demo_clip
from .demo.restoration import DemoDataModule as DemoDataModule
from .demo.spectral import SpectralDemoDataModule as SpectralDemoDataModule
from .demo.video import VideoDemoDataModule as VideoDemoDataModule
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
from .video.deblurring import DVDDataModule as DVDDataModule
from .video.deblurring import GoProVideoDataModule as GoProVideoDataModule
from .video.denoising import DAVISDataModule as DAVISDataModule
from .video.folders import ClipFolderDataModule as ClipFolderDataModule
from .video.reds import REDSDataModule as REDSDataModule
from .video.super_resolution import Vid4DataModule as Vid4DataModule
from .video.vimeo90k import Vimeo90KDataModule as Vimeo90KDataModule

__all__ = [
    "CASSIDataModule",
    "ClipFolderDataModule",
    "DAVISDataModule",
    "DVDDataModule",
    "DataError",
    "DegradedFolderDataModule",
    "DemoDataModule",
    "GaussianDenoisingDataModule",
    "GoProDataModule",
    "GoProVideoDataModule",
    "JPEGDataModule",
    "NTIRE2022DataModule",
    "PairedFolderDataModule",
    "PairedImageDataModule",
    "PairedImageDataset",
    "PairedTransform",
    "REDSDataModule",
    "RESIDEDataModule",
    "Rain13kDataModule",
    "RealBlurDataModule",
    "RestorationDataModule",
    "SIDDDataModule",
    "SpectralDemoDataModule",
    "Stage",
    "SuperResolutionDataModule",
    "Vid4DataModule",
    "VideoDemoDataModule",
    "Vimeo90KDataModule",
    "demo_clip",
]
