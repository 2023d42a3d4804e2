"""Super-resolution: DIV2K and Flickr2K to train on, and the five sets that papers test on."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from datamodules.base.benchmark import BenchmarkDataModule, join
from datamodules.base.checks import check_pair
from datamodules.base.crops import Cut, TrainingFolders
from datamodules.base.parts import Part, PublishedDataSet
from datamodules.base.published import counted, find_folder
from datamodules.degradations.downsampling import BicubicDownsampling
from datamodules.errors import DataError
from datamodules.files.images import has_images, list_images
from datamodules.pairs.degraded import CleanImages
from datamodules.pairs.matching import Pairs, pair_folders

TEST_SETS = ("Set5", "Set14", "BSDS100", "Urban100", "Manga109")

# Where the releases of the training images keep them; the folder around is called by the first word.
_RELEASED = {"DIV2K": "DIV2K_train", "DIV2K_valid": "DIV2K_valid", "Flickr2K": "Flickr2K"}
# High and low resolution in the folder of a test set.
_LAYOUTS = (("HR", "LR_bicubic/X{scale}"), ("GTmod12", "LRbicx{scale}"))


class SuperResolutionDataModule(BenchmarkDataModule, PublishedDataSet):
    """Photographs and their bicubic reductions, to be downloaded by the user.

    DIV2K (Agustsson and Timofte, CVPRW 2017; 800 training and 100 validation images) and Flickr2K (Lim et al., CVPRW
    2017; 2650) are for academic research only; Set5, Set14, BSDS100, Urban100 and Manga109 were collected by papers
    that state no licence, but for Manga109, which is for academic use on request. Layouts of a set::

        Set5/{HR,LR_bicubic/X2}                                 names `baby.png` and `babyx2.png`, or the same
        Set5/{GTmod12,LRbicx2}                                  as BasicSR arranges them
        DIV2K/{DIV2K_train_HR,DIV2K_train_LR_bicubic/X2}        as released; Flickr2K likewise, without `_train`
        Set5/*.png                                              high resolution only

    Where a set has no folder of low-resolution images for the scale, they are made by MATLAB's bicubic `imresize` of
    8-bit levels, from targets cropped to a multiple of the scale; a message reports it. So made, those of Set5 at
    scales 2, 3 and 4 equal the distributed files exactly; at 8 those are rounded once only.

    Args:
        root: the folder that the sets are in, or a test set's own.
        scale: 2, 3, 4 or 8.
        train_sets: what to train on: DIV2K, Flickr2K, or other folders in one of the layouts.
        val_sets: what validates during training; DIV2K_valid is DIV2K's own validation set.
        test_sets: what to test on: of the five, or other folders.
        **kwargs: of `PairedImageDataModule`.

    Raises:
        ValueError: if the scale is another.

    Examples:
        >>> import numpy as np
        >>> from datamodules.files import write_image
        >>> from datamodules import SuperResolutionDataModule
        >>> _ = write_image("Set5/baby.png", np.full((33, 48, 3), 200, np.uint8))
        >>> data = SuperResolutionDataModule("Set5", scale=2, num_workers=0)
        >>> data.setup("test")
        >>> sample = next(iter(data.test_dataloader()[0]))
        >>> sample["input"].shape, sample["target"].shape
        (torch.Size([1, 3, 16, 24]), torch.Size([1, 3, 32, 48]))
    """

    counts: ClassVar[dict[str, int]] = {
        "Set5": 5,
        "Set14": 14,
        "BSDS100": 100,
        "Urban100": 100,
        "Manga109": 109,
        "DIV2K": 800,
        "DIV2K_valid": 100,
        "Flickr2K": 2650,
    }
    aliases: ClassVar[dict[str, tuple[str, ...]]] = {"BSDS100": ("B100", "BSD100")}
    scales = (2, 3, 4, 8)
    published_cut = Cut(480, step=240)
    """BasicSR's, of DIV2K."""

    def __init__(
        self,
        root: Path,
        *,
        scale: int = 2,
        train_sets: Sequence[str] = ("DIV2K",),
        val_sets: Sequence[str] = ("Set5",),
        test_sets: Sequence[str] = TEST_SETS,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, test_sets=test_sets, val_sets=val_sets, scale=scale, **kwargs)
        if scale not in self.scales:
            raise ValueError(f"scale ({scale}) must be one of {', '.join(map(str, self.scales))}")
        self.train_sets = list(train_sets)

    @classmethod
    def parts(cls, root: Path, scale: int) -> Iterator[Part]:
        """List the training, validation and test sets."""
        data = cls(root, scale=scale)
        for name, published in cls.counts.items():
            stem = {"DIV2K": "DIV2K_train", "DIV2K_valid": "DIV2K_valid"}.get(name)
            places = [folder for folder in (find_folder(root, "DIV2K"), root) if folder]
            released = stem is not None and any(find_folder(place, f"{stem}_HR") for place in places)
            find = partial(data._counted_set, name) if released or data.folder_of(name) else None
            yield Part(name, published, find, partial(check_pair, scale=scale))

    @classmethod
    def training_folders(cls, scale: int) -> Sequence[TrainingFolders]:
        """List the folder that BasicSR's crops of DIV2K are in."""
        return [TrainingFolders("DIV2K", "DIV2K", f"DIV2K_train_LR_bicubic/X{scale}", "DIV2K_train_HR")]

    @classmethod
    def links(cls, root: Path) -> Iterator[tuple[str, Path]]:
        """List the test sets, Flickr2K and DIV2K's validation set."""
        data = cls(root)
        for name in cls.counts:
            if name not in ("DIV2K", "DIV2K_valid") and (folder := data.folder_of(name)):
                yield name, folder
        for name in ("DIV2K_valid_HR", "DIV2K_valid_LR_bicubic"):
            if folder := find_folder(root, name) or find_folder(root / "DIV2K", name):
                yield name, folder

    def train_pairs(self) -> Pairs:
        """Find the training pairs.

        Raises:
            DataError: if a set is absent, or some have low-resolution images and others not.
        """
        if not self.train_sets:
            raise DataError("train_sets ([]) must name a set to train on; DIV2K is usual")
        return join({name: self._required(name, "train_sets") for name in self.train_sets}, "train_sets")

    def is_set(self, folder: Path) -> bool:
        """Whether a folder holds images itself, or a half of a set."""
        return any(self._halves(folder)) or has_images(folder)

    def find_set(self, name: str) -> Pairs | None:
        """Find a set; None if it is not there."""
        if stem := _RELEASED.get(name):
            for base in (find_folder(self.root, stem.partition("_")[0]), self.root):
                if base and (high := find_folder(base, f"{stem}_HR")):
                    return self._pair(name, high, base / f"{stem}_LR_bicubic/X{self.scale}")
        folder = self.folder_of(name)
        return None if folder is None else self._pairs(name, folder)

    def _counted_set(self, name: str) -> Pairs:
        pairs = self.find_set(name)
        if pairs is None:
            raise DataError(f"source must hold {name}, got nothing there; check the path")
        return counted(name, pairs, self.counts[name])

    def _pairs(self, name: str, folder: Path) -> Pairs:
        high, low = self._halves(folder)
        if high is None and low is None and has_images(folder):
            high = folder
        if high is None:
            raise DataError(
                f"root's {name} ({folder}) must hold {' or '.join(pair[0] for pair in _LAYOUTS)} with the "
                f"high-resolution images, or these themselves, got {'low-resolution images only' if low else 'none'}; "
                "download the set, or check the path"
            )
        return self._pair(name, high, low)

    def _halves(self, folder: Path) -> tuple[Path | None, Path | None]:
        """Folders of high and low resolution in a test set's folder."""
        found: tuple[Path | None, Path | None] = None, None
        for high_name, low_name in _LAYOUTS:
            high, low = find_folder(folder, high_name), folder / low_name.format(scale=self.scale)
            found = high or found[0], low if low.is_dir() else found[1]
            if all(found):
                break
        return found

    def _pair(self, name: str, high: Path, low: Path | None) -> Pairs:
        if low is not None and low.is_dir():
            return pair_folders(
                low,
                high,
                scale=self.scale,
                input_argument=f"root's {name}/{low.parent.name}/{low.name}",
                target_argument=f"root's {name}/{high.name}",
            )
        self._say(f"{name} has no low-resolution images for scale {self.scale}: they are made by bicubic reduction")
        degradation = BicubicDownsampling(self.scale, eight_bit=True)
        return CleanImages.of(list_images(high, f"root's {name}/{high.name}"), degradation)
