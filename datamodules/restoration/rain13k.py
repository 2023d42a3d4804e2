"""Rain13K: the training set of 13 712 synthetic pairs and the five test sets of the deraining literature."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from datamodules.base.benchmark import BenchmarkDataModule
from datamodules.base.crops import Cut, TrainingFolders
from datamodules.base.parts import Part, PublishedDataSet
from datamodules.base.published import find_data_set, find_folder, shortfall
from datamodules.pairs.matching import Pairs, pair_folders

TEST_SETS = ("Rain100H", "Rain100L", "Test100", "Test1200", "Test2800")


class Rain13kDataModule(BenchmarkDataModule, PublishedDataSet):
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

    Args:
        root: the folder `Rain13K`, or the one that it is in.
        val_sets: test sets that validate during training. Rain13K has no validation split; published recipes use
            Rain100L, so a checkpoint chosen by it has seen that set's score.
        test_sets: what to test on.
        **kwargs: of `PairedImageDataModule`.

    Raises:
        ValueError: if `val_sets` or `test_sets` names an unknown set.

    Examples:
        >>> import numpy as np
        >>> from datamodules.files import write_image
        >>> from datamodules import Rain13kDataModule
        >>> for place in ("test/Rain100L/input", "test/Rain100L/target"):
        ...     _ = write_image(f"Rain13K/{place}/1.png", np.full((32, 48, 3), 200, np.uint8))
        >>> data = Rain13kDataModule("Rain13K", num_workers=0)
        >>> data.setup("test")
        >>> data.test_set_names, data.absent_test_sets
        (['Rain100L'], ['Rain100H', 'Test100', 'Test1200', 'Test2800'])
    """

    train_count: ClassVar[int] = 13_712
    counts: ClassVar[dict[str, int]] = dict(zip(TEST_SETS, (100, 100, 98, 1200, 2800), strict=True))
    published_cut = Cut(None)

    def __init__(
        self,
        root: Path,
        *,
        val_sets: Sequence[str] = ("Rain100L",),
        test_sets: Sequence[str] = TEST_SETS,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, test_sets=test_sets, val_sets=val_sets, **kwargs)
        for argument, names in (("val_sets", val_sets), ("test_sets", test_sets)):
            unknown = [name for name in names if name not in self.counts]
            if unknown:
                raise ValueError(f"{argument} ({', '.join(unknown)}) must be among {', '.join(self.counts)}")

    @classmethod
    def parts(cls, root: Path, scale: int) -> Iterator[Part]:
        """List the training pairs and the five test sets."""
        folder = find_data_set(root, ("Rain13K",))
        yield Part("Rain13K/train", cls.train_count, cls(root).train_pairs if (folder / "train").is_dir() else None)
        for name, published in cls.counts.items():
            data = cls(root, test_sets=[name])
            yield Part(name, published, partial(data.test_set, name) if data.folder_of(name) else None)

    @classmethod
    def training_folders(cls, scale: int) -> Sequence[TrainingFolders]:
        """List the folder of the training pairs."""
        return [TrainingFolders("Rain13K/train", "Rain13K/train", "input", "target")]

    @classmethod
    def links(cls, root: Path) -> Iterator[tuple[str, Path]]:
        """List the test sets."""
        if test := find_folder(find_data_set(root, ("Rain13K",)), "test"):
            yield "Rain13K/test", test

    def train_pairs(self) -> Pairs:
        """Find the training pairs."""
        pairs = self._pairs(find_data_set(self.root, ("Rain13K",)) / "train", "train")
        if message := shortfall("Rain13K/train", pairs, self.train_count):
            self._say(message)
        return pairs

    def sets_folder(self) -> Path:
        """The folder `test` of the data set."""
        return find_data_set(self.root, ("Rain13K",)) / "test"

    def find_set(self, name: str) -> Pairs | None:
        """Find the pairs of a test set; None if it is not there."""
        folder = self.folder_of(name)
        return None if folder is None else self._pairs(folder, f"test/{name}")

    @staticmethod
    def _pairs(folder: Path, place: str) -> Pairs:
        return pair_folders(
            folder / "input",
            folder / "target",
            input_argument=f"root's {place}/input",
            target_argument=f"root's {place}/target",
        )
