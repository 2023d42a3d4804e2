"""Clean images with synthetic noise or JPEG artefacts."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from datamodules.base.benchmark import BenchmarkDataModule, join
from datamodules.base.published import find_folder
from datamodules.degradations.base import Degradation, Range
from datamodules.degradations.jpeg import JPEGCompression
from datamodules.degradations.noise import BenchmarkNoise, GaussianNoise
from datamodules.errors import DataError
from datamodules.files.images import has_images, list_images
from datamodules.pairs.degraded import CleanImages
from datamodules.pairs.matching import Pairs

# SwinIR's training sets; Restormer's DFWB is the same four in one folder.
TRAIN_SETS = ("DIV2K", "Flickr2K", "BSD500", "WED")


class CleanImageDataModule(BenchmarkDataModule):
    """Folders of clean images, degraded as they are read; subclasses choose the degradation.

    Args:
        root: the folder that the sets are in, each a folder of images (or with `HR`, that holds them), or a test set's
            own.
        train_sets: folders to train on.
        val_sets: folders that validate during training.
        test_sets: folders to test on.
        **kwargs: of `PairedImageDataModule`.
    """

    studio: ClassVar[bool] = False
    """Whether grey is the luma of `rgb2ycbcr`."""

    def __init__(
        self, root: Path, *, train_sets: Sequence[str], val_sets: Sequence[str], test_sets: Sequence[str], **kwargs: Any
    ) -> None:
        super().__init__(root, test_sets=test_sets, val_sets=val_sets, **kwargs)
        self.train_sets = list(train_sets)

    @property
    @abstractmethod
    def training(self) -> Degradation:
        """The degradation of training patches, drawn anew each time."""

    @property
    @abstractmethod
    def evaluation(self) -> Degradation:
        """The degradation of whole images, the same each time."""

    def train_pairs(self) -> Pairs:
        """Find the training images.

        Raises:
            DataError: if a set is absent.
        """
        if not self.train_sets:
            raise DataError(f"train_sets ([]) must name folders in root ({self.root}) to train on")
        files = {name: self._files(name) for name in self.train_sets}
        for name, found in files.items():
            if found is None:
                raise DataError(
                    f"train_sets ({name}) must be in {self.root}, got {self._entries()}; choose among these"
                )
        return join({name: self._images(found or [], self.training) for name, found in files.items()}, "train_sets")

    def is_set(self, folder: Path) -> bool:
        """Whether a folder holds images itself."""
        return has_images(folder)

    def find_set(self, name: str) -> Pairs | None:
        """Find a set to evaluate on; None if it is not there."""
        files = self._files(name)
        return None if files is None else self._images(files, self.evaluation)

    def _files(self, name: str) -> list[Path] | None:
        folder = self.folder_of(name)
        if folder is None:
            return None
        inner = None if has_images(folder) else find_folder(folder, "HR")
        return list_images(inner or folder, f"root's {name}")

    def _images(self, files: list[Path], degradation: Degradation) -> CleanImages:
        return CleanImages.of(files, degradation, studio=self.studio)


class GaussianDenoisingDataModule(CleanImageDataModule):
    """Clean images, to be downloaded, and white Gaussian noise, which is made.

    Sets of colour are tested with `channels` 3: CBSD68 and BSDS200 (Martin et al., ICCV 2001; for non-commercial
    research and education), Kodak24 (released by Kodak for unrestricted use), McMaster (Zhang et al., JEI 2011) and
    Urban100 (Huang et al., CVPR 2015); sets of grey with `channels` 1: Set12, BSD68 and Urban100. The papers of
    McMaster, Urban100 and Set12 state no licence. Any other folder can be named. Layout::

        root/Kodak24/*.png      or any other suffix

    A tested image has the noise of SwinIR's test script (`BenchmarkNoise`), a training patch a new one each time;
    neither is clipped.

    Args:
        root: the folder that the sets are in, or a test set's own.
        sigma: σ of the noise in grey levels of 255; published tables have 15, 25 and 50.
        train_sigma: lowest and highest σ to train with; None: `sigma`.
        train_sets: folders to train on.
        val_sets: folders that validate during training.
        test_sets: folders to test on; None: the published ones for `channels`.
        **kwargs: of `PairedImageDataModule`.

    Raises:
        ValueError: if a σ is out of range.

    Examples:
        >>> import numpy as np
        >>> from datamodules.files import write_image
        >>> from datamodules import GaussianDenoisingDataModule
        >>> _ = write_image("Kodak24/1.png", np.full((32, 48, 3), 128, np.uint8))
        >>> data = GaussianDenoisingDataModule(".", sigma=25, test_sets=["Kodak24"], num_workers=0)
        >>> data.setup("test")
        >>> sample = next(iter(data.test_dataloader()[0]))
        >>> noise = sample["input"] - sample["target"]
        >>> round(float(255 * noise.std()), 1)
        24.6
    """

    counts: ClassVar[dict[str, int]] = {
        "CBSD68": 68,
        "Kodak24": 24,
        "McMaster": 18,
        "Urban100": 100,
        "Set12": 12,
        "BSD68": 68,
        "BSDS200": 200,
    }
    aliases: ClassVar[dict[str, tuple[str, ...]]] = {
        "Kodak24": ("Kodak",),
        "BSD68": ("BSDS68",),
        "BSDS200": ("BSD200",),
    }

    def __init__(
        self,
        root: Path,
        *,
        sigma: float = 25.0,
        train_sigma: Range | None = None,
        train_sets: Sequence[str] = TRAIN_SETS,
        val_sets: Sequence[str] = (),
        test_sets: Sequence[str] | None = None,
        channels: int = 3,
        **kwargs: Any,
    ) -> None:
        published = ("Set12", "BSD68", "Urban100") if channels == 1 else ("CBSD68", "Kodak24", "McMaster", "Urban100")
        chosen = published if test_sets is None else test_sets
        super().__init__(root, train_sets=train_sets, val_sets=val_sets, test_sets=chosen, channels=channels, **kwargs)
        self.noise = BenchmarkNoise(sigma)
        self.train_noise = GaussianNoise((sigma, sigma) if train_sigma is None else train_sigma, clip=False)

    @property
    def training(self) -> Degradation:
        """Gaussian noise, drawn anew each time."""
        return self.train_noise

    @property
    def evaluation(self) -> Degradation:
        """The benchmarks' noise."""
        return self.noise


class JPEGDataModule(CleanImageDataModule):
    """Clean images, to be downloaded, and JPEG's artefacts, made by encoding and decoding.

    Classic5 (grey; Foi et al., TIP 2007) and LIVE1 (29 colour photographs; Sheikh et al., TIP 2006; for research, with
    attribution) are the published sets; any other folder can be named. With `channels` 1 colour images are reduced to
    their Y of MATLAB's `rgb2ycbcr` first, as the published grey figures are measured. Layout::

        root/LIVE1/*.bmp        or any other suffix

    Args:
        root: the folder that the sets are in, or a test set's own.
        quality: of the encoder; published tables have 10, 20, 30 and 40.
        train_quality: lowest and highest quality to train with; None: `quality`.
        train_sets: folders to train on.
        val_sets: folders that validate during training.
        test_sets: folders to test on; None: Classic5 and LIVE1, of colour LIVE1.
        **kwargs: of `PairedImageDataModule`.

    Raises:
        ValueError: if a quality is out of range.

    Examples:
        >>> import numpy as np
        >>> from datamodules.files import write_image
        >>> from datamodules import JPEGDataModule
        >>> _ = write_image("LIVE1/1.png", np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8))
        >>> data = JPEGDataModule(".", quality=10, num_workers=0)
        >>> data.setup("test")
        >>> sample = next(iter(data.test_dataloader()[0]))
        >>> bool((sample["input"] - sample["target"]).abs().mean() > 0.1)
        True
    """

    counts: ClassVar[dict[str, int]] = {"Classic5": 5, "LIVE1": 29}
    studio = True

    def __init__(
        self,
        root: Path,
        *,
        quality: int = 40,
        train_quality: Range | None = None,
        train_sets: Sequence[str] = TRAIN_SETS,
        val_sets: Sequence[str] = (),
        test_sets: Sequence[str] | None = None,
        channels: int = 3,
        **kwargs: Any,
    ) -> None:
        published = ("Classic5", "LIVE1") if channels == 1 else ("LIVE1",)
        chosen = published if test_sets is None else test_sets
        super().__init__(root, train_sets=train_sets, val_sets=val_sets, test_sets=chosen, channels=channels, **kwargs)
        self.compression = JPEGCompression((quality, quality))
        self.train_compression = JPEGCompression((quality, quality) if train_quality is None else train_quality)

    @property
    def training(self) -> Degradation:
        """A quality drawn for each patch."""
        return self.train_compression

    @property
    def evaluation(self) -> Degradation:
        """The chosen quality."""
        return self.compression
