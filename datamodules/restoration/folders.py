"""Any folders of image pairs."""

from pathlib import Path
from typing import Any

from datamodules.base.paired import PairedImageDataModule
from datamodules.errors import DataError
from datamodules.pairs.matching import Pairs, pair_folders


class PairedFolderDataModule(PairedImageDataModule):
    """Pairs of folders, one of degraded and one of clean images with the same names; see `pair_folders`.

    Only the folders of the stages that are run need to be given. A set is called by the folder that its targets'
    folder is in: `Rain100L/target` gives `Rain100L`.

    Args:
        train_input: degraded images to train on.
        train_target: their clean images.
        val_input: degraded images that validate during training; without them there is no validation.
        val_target: their clean images.
        test_input: degraded images to test on.
        test_target: their clean images.
        **kwargs: of `PairedImageDataModule`.
    """

    def __init__(
        self,
        train_input: Path | None = None,
        train_target: Path | None = None,
        val_input: Path | None = None,
        val_target: Path | None = None,
        test_input: Path | None = None,
        test_target: Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.folders = {
            "train": (train_input, train_target),
            "val": (val_input, val_target),
            "test": (test_input, test_target),
        }

    def train_pairs(self) -> Pairs:
        """Match the training folders."""
        return self._pairs("train")[1]

    def val_pairs(self) -> dict[str, Pairs]:
        """Match the validation folders, if they are given."""
        return {} if self.folders["val"] == (None, None) else dict([self._pairs("val")])

    def test_pairs(self) -> dict[str, Pairs]:
        """Match the test folders."""
        return dict([self._pairs("test")])

    def _pairs(self, split: str) -> tuple[str, Pairs]:
        inputs, targets = self.folders[split]
        if inputs is None or targets is None:
            argument = f"{split}_input" if inputs is None else f"{split}_target"
            raise DataError(f"{argument} (None) must be a folder of images; give --data.{argument}")
        pairs = pair_folders(
            inputs,
            targets,
            scale=self.scale,
            input_argument=f"{split}_input",
            target_argument=f"{split}_target",
        )
        return Path(targets).resolve().parent.name, pairs
