"""Folders of one's own: pairs of images, or clean images that are degraded as they are read."""

from pathlib import Path
from typing import Any

from datamodules.base.own_images import OwnImagesDataModule
from datamodules.degradations.base import Degradation
from datamodules.degradations.noise import GaussianNoise
from datamodules.errors import DataError
from datamodules.files.images import list_images
from datamodules.pairs.degraded import CleanImages
from datamodules.pairs.folders import PartName, find_halves, find_part
from datamodules.pairs.matching import Affixes, Pairs, pair_folders


class PairedFolderDataModule(OwnImagesDataModule):
    """Pairs of folders, one of degraded and one of clean images with the same names; see `pair_folders`.

    The folders are named one by one, or found in `root` by their usual names::

        root/{input,target}                     all trains; `val_images` splits validation off
        root/{train,val,test}/{input,target}    val and test may be absent

    Instead of `input` and `target` these folders may be called lq and gt, noisy and clean, rainy and clean, hazy and
    GT, blur and sharp, LR and HR, and the like. Only the folders of the stages that are run are needed. A set is called
    by the folder that its targets' folder is in: `Rain100L/target` gives `Rain100L`.

    Args:
        train_input: degraded images to train on.
        train_target: their clean images.
        val_input: degraded images that validate during training.
        val_target: their clean images.
        test_input: degraded images to test on.
        test_target: their clean images.
        root: the folder that the pairs of folders are in which are not named.
        input_prefix: text in front of inputs' names that targets' names have not.
        input_suffix: text behind inputs' names, before the file's ending.
        target_prefix: text in front of targets' names.
        target_suffix: text behind targets' names, such as `_clean` of `1_clean.png` for the input `1.png`.
        **kwargs: of `OwnImagesDataModule`.

    Examples:
        >>> import numpy as np
        >>> from datamodules.files import write_image
        >>> from datamodules import PairedFolderDataModule
        >>> for number in range(5):
        ...     _ = write_image(f"mine/noisy/{number}.png", np.full((32, 48, 3), 200, np.uint8))
        ...     _ = write_image(f"mine/clean/{number}_clean.png", np.full((32, 48, 3), 190, np.uint8))
        >>> options = {"patch_size": 16, "batch_size": 2, "num_workers": 0}
        >>> data = PairedFolderDataModule(root="mine", target_suffix="_clean", val_images=1, val_size=24, **options)
        >>> data.setup("fit")
        >>> next(iter(data.train_dataloader()))["input"].shape
        torch.Size([2, 3, 16, 16])
        >>> data.val_set_names, len(data.val_dataloader()[0])
        (['mine-val-centre24'], 1)
    """

    def __init__(
        self,
        train_input: Path | None = None,
        train_target: Path | None = None,
        val_input: Path | None = None,
        val_target: Path | None = None,
        test_input: Path | None = None,
        test_target: Path | None = None,
        *,
        root: Path | None = None,
        input_prefix: str = "",
        input_suffix: str = "",
        target_prefix: str = "",
        target_suffix: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.folders: dict[PartName, tuple[Path | None, Path | None]] = {
            "train": (train_input, train_target),
            "val": (val_input, val_target),
            "test": (test_input, test_target),
        }
        self.root = None if root is None else Path(root)
        self.affixes = Affixes(input_prefix, input_suffix, target_prefix, target_suffix)

    def has_validation(self) -> bool:
        """Whether a validation folder is named, or in `root`."""
        return self.folders["val"] != (None, None) or (
            self.root is not None and find_part(self.root, "val") is not None
        )

    def find(self, part: PartName) -> tuple[str, Pairs]:
        """Match the two folders of a part.

        Raises:
            DataError: if a folder is missing or empty, or an image has no counterpart.
        """
        inputs, targets = self.folders[part]
        if inputs is None and targets is None and self.root is not None:
            inputs, targets = self._halves(self.root, part)
        if inputs is None or targets is None:
            argument = f"{part}_input" if inputs is None else f"{part}_target"
            beside = "" if self.root is None else f", or a folder {part} in {self.root}"
            raise DataError(f"{argument} (None) must be a folder of images; give --data.{argument}{beside}")
        pairs = pair_folders(
            inputs,
            targets,
            scale=self.scale,
            affixes=self.affixes,
            input_argument=f"{part}_input",
            target_argument=f"{part}_target",
        )
        return Path(targets).resolve().parent.name, pairs

    @staticmethod
    def _halves(root: Path, part: PartName) -> tuple[Path | None, Path | None]:
        folder = find_part(root, part)
        if folder is None and part != "train":
            return None, None
        return find_halves(folder or root, part)


class DegradedFolderDataModule(OwnImagesDataModule):
    """Clean images of one's own, degraded as they are read: a training patch anew each time, an image always alike.

    Layout::

        root/*.png                      all trains; `val_images` splits validation off
        root/{train,val,test}/*.png     val and test may be absent

    A set is called by the folder that its images are in.

    Args:
        root: the folder of images, or the one that `train`, `val` and `test` are in.
        degradation: of the clean images; None: Gaussian noise of 5 to 50 grey levels.
        **kwargs: of `OwnImagesDataModule`, but for `scale`, which is the degradation's.

    Examples:
        >>> import numpy as np
        >>> from datamodules.files import write_image
        >>> from datamodules import DegradedFolderDataModule
        >>> from datamodules.degradations import BicubicDownsampling
        >>> for number in range(5):
        ...     _ = write_image(f"photos/{number}.png", np.full((32, 48, 3), 200, np.uint8))
        >>> data = DegradedFolderDataModule(
        ...     "photos", BicubicDownsampling(2), val_images=16, patch_size=8, batch_size=2, num_workers=0
        ... )
        >>> data.setup("fit")
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch["input"].shape, batch["target"].shape
        (torch.Size([2, 3, 8, 8]), torch.Size([2, 3, 16, 16]))
    """

    def __init__(self, root: Path, degradation: Degradation | None = None, **kwargs: Any) -> None:
        self.degradation = GaussianNoise() if degradation is None else degradation
        super().__init__(**kwargs, scale=self.degradation.scale)
        self.root = Path(root)

    def has_validation(self) -> bool:
        """Whether `root` has a validation folder."""
        return find_part(self.root, "val") is not None

    def find(self, part: PartName) -> tuple[str, Pairs]:
        """List the images of a part.

        Raises:
            DataError: if the folder is missing or empty.
        """
        folder = find_part(self.root, part)
        if folder is None and part != "train":
            raise DataError(f"root ({self.root}) must hold {part} with clean images, got none; add the folder")
        folder = folder or self.root
        images = list_images(folder, "root" if folder == self.root else f"root's {folder.name}")
        return folder.resolve().name, CleanImages.of(images, self.degradation)
