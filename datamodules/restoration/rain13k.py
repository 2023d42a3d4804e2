"""Rain13K: the training set of 13 712 synthetic pairs and the five test sets of the deraining literature."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.base.paired import PairedImageDataModule
from datamodules.base.published import find_data_set, shortfall
from datamodules.errors import DataError
from datamodules.pairs.matching import Pairs, pair_folders

TRAIN_COUNT = 13_712
TEST_COUNTS = {"Rain100H": 100, "Rain100L": 100, "Test100": 98, "Test1200": 1200, "Test2800": 2800}


class Rain13kDataModule(PairedImageDataModule):
    """Rain13K (Jiang et al., CVPR 2020; Zamir et al., CVPR 2021 and 2022), to be downloaded by the user.

    Layout, as the repositories of MPRNet and Restormer arrange it::

        Rain13K/train/{input,target}           13 712 pairs
        Rain13K/test/Rain100H/{input,target}      100
        Rain13K/test/Rain100L/{input,target}      100
        Rain13K/test/Test100/{input,target}        98
        Rain13K/test/Test1200/{input,target}     1200
        Rain13K/test/Test2800/{input,target}     2800

    A folder with some of the test sets is evaluated on those, and the others are named. Published averages are the
    mean of the five sets' means.

    Attributes:
        absent_test_sets: test sets that are not there, after `setup("test")` or `setup("predict")`.

    Args:
        root: the folder `Rain13K`, or the one that it is in.
        val_sets: test sets that validate during training. Rain13K has no validation split; published recipes use
            Rain100L, so a checkpoint chosen by it has seen that set's score.
        **kwargs: of `PairedImageDataModule`.

    Raises:
        ValueError: if `val_sets` names an unknown set.
    """

    def __init__(self, root: Path, *, val_sets: Sequence[str] = ("Rain100L",), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        unknown = [name for name in val_sets if name not in TEST_COUNTS]
        if unknown:
            raise ValueError(f"val_sets ({', '.join(unknown)}) must be among {', '.join(TEST_COUNTS)}")
        self.root = Path(root)
        self.val_sets = list(val_sets)
        self.absent_test_sets: list[str] = []

    @property
    def published_counts(self) -> dict[str, int]:
        """Number of images of the five test sets, as published; see base class."""
        return TEST_COUNTS

    def train_pairs(self) -> Pairs:
        """Find the training pairs."""
        return self._pairs("train", "Rain13K/train", TRAIN_COUNT)

    def val_pairs(self) -> dict[str, Pairs]:
        """Find the sets that validate.

        Raises:
            DataError: if one of them is absent.
        """
        present = self._present()
        for name in self.val_sets:
            if name not in present:
                raise DataError(
                    f"val_sets ({name}) must be in {self._folder() / 'test'}, got {', '.join(present) or 'none'}; "
                    "choose among these, or give an empty list to train without validation"
                )
        return {name: self._test_set(name) for name in self.val_sets}

    def test_pairs(self) -> dict[str, Pairs]:
        """Find the test sets that are there.

        Raises:
            DataError: if there is none.
        """
        present = self._present()
        if not present:
            raise DataError(
                f"root ({self.root}) must hold a test set ({', '.join(TEST_COUNTS)}) in {self._folder() / 'test'}, "
                "got none; download one"
            )
        self.absent_test_sets = [name for name in TEST_COUNTS if name not in present]
        if self.absent_test_sets:
            self._say(
                f"test sets absent from {self._folder() / 'test'}: {', '.join(self.absent_test_sets)}; "
                "the mean over sets is not the published one"
            )
        return {name: self._test_set(name) for name in present}

    def _folder(self) -> Path:
        return find_data_set(self.root, ("Rain13K",))

    def _present(self) -> list[str]:
        return [name for name in TEST_COUNTS if (self._folder() / "test" / name).is_dir()]

    def _test_set(self, name: str) -> Pairs:
        return self._pairs(f"test/{name}", name, TEST_COUNTS[name])

    def _pairs(self, folder: str, name: str, published: int) -> Pairs:
        base = self._folder() / folder
        pairs = pair_folders(
            base / "input",
            base / "target",
            input_argument=f"root's {folder}/input",
            target_argument=f"root's {folder}/target",
        )
        if message := shortfall(name, pairs, published):
            self._say(message)
        return pairs
