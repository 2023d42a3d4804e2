"""GoPro: motion blur made by averaging the frames of high-speed videos; and HIDE, made likewise, to test on."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from datamodules.base.benchmark import BenchmarkDataModule
from datamodules.base.crops import Cut, TrainingFolders
from datamodules.base.parts import Part, PublishedDataSet
from datamodules.base.published import find_data_set, find_folder, shortfall
from datamodules.errors import DataError
from datamodules.pairs.matching import Pairs, pair_folders, spread

TestSet = Literal["GoPro", "HIDE"]

# What the folder of the data set is called.
_NAMES = ("GoPro", "GOPRO_Large")


class GoProDataModule(BenchmarkDataModule, PublishedDataSet):
    """GoPro (Nah, Kim and Lee, CVPR 2017; CC BY 4.0), to be downloaded: 2103 training and 1111 test pairs of 720×1280.

    Either layout::

        GoPro/{train,test}/{input,target}                       as the repository of Restormer arranges it, or
        {train,test}/GoPro/{input,target}                       as its scripts download it
        GOPRO_Large/{train,test}/GOPRxxxx_xx_xx/{blur,sharp}    as released, one folder a video

    Restormer trains on crops of 512×512 at a step of 256, in the first layout. In the last an image is called
    `GOPRxxxx_xx_xx-000001`, as in the first.

    Networks of GoPro are tested on HIDE too (Shen et al., ICCV 2019; 2025 test pairs of pedestrians; terms: its page).
    Layout: `HIDE/{input,target}`, `HIDE/test/{input,target}` or `test/HIDE/{input,target}` in `root`.

    Args:
        root: the folder `GoPro` or `GOPRO_Large`, or the one that it is in, which is also HIDE's.
        val_images: test images, evenly spaced, that validate during training; 0 for none. GoPro has no validation
            split, and published recipes watch the test set.
        test_sets: GoPro, HIDE or both.
        **kwargs: of `PairedImageDataModule`.

    Raises:
        ValueError: if `val_images` is negative or a test set is unknown.

    Examples:
        >>> import numpy as np
        >>> from datamodules.files import write_image
        >>> from datamodules import GoProDataModule
        >>> for place in ("train/input", "train/target", "test/input", "test/target"):
        ...     _ = write_image(f"GoPro/{place}/1.png", np.full((32, 48, 3), 200, np.uint8))
        >>> data = GoProDataModule("GoPro", patch_size=16, batch_size=1, num_workers=0)
        >>> data.setup("fit")
        >>> next(iter(data.train_dataloader()))["target"].shape
        torch.Size([1, 3, 16, 16])
        >>> data.published_counts
        {'GoPro': 1111}
    """

    train_count: ClassVar[int] = 2103
    counts: ClassVar[dict[str, int]] = {"GoPro": 1111, "HIDE": 2025}
    published_cut = Cut(512, step=256)
    """Restormer's."""

    def __init__(
        self, root: Path, *, val_images: int = 20, test_sets: Sequence[TestSet] = ("GoPro",), **kwargs: Any
    ) -> None:
        super().__init__(root, test_sets=test_sets, val_sets=["GoPro"] if val_images else [], **kwargs)
        if val_images < 0:
            raise ValueError(f"val_images ({val_images}) must be at least 0; 0 trains without validation")
        unknown = [name for name in test_sets if name not in get_args(TestSet)]
        if unknown:
            raise ValueError(f"test_sets ({', '.join(unknown)}) must be among {', '.join(get_args(TestSet))}")
        self.val_images = val_images

    @classmethod
    def parts(cls, root: Path, scale: int) -> Iterator[Part]:
        """List GoPro's training and test pairs, and HIDE."""
        data, folder = cls(root), find_data_set(root, _NAMES)
        yield Part("GoPro/train", cls.train_count, data.train_pairs if (folder / "train").is_dir() else None)
        find = partial(data.test_set, "GoPro") if (folder / "test").is_dir() else None
        yield Part("GoPro/test", cls.counts["GoPro"], find)
        hide = cls(root, val_images=0, test_sets=["HIDE"])
        present = any((root / place).is_dir() for place in ("HIDE", "test/HIDE"))
        yield Part("HIDE", cls.counts["HIDE"], partial(hide.test_set, "HIDE") if present else None)

    @classmethod
    def training_folders(cls, scale: int) -> Sequence[TrainingFolders]:
        """List the folder that Restormer's crops are in."""
        return [TrainingFolders("GoPro/train", "GoPro/train", "input", "target")]

    @classmethod
    def links(cls, root: Path) -> Iterator[tuple[str, Path]]:
        """List the test pairs."""
        if test := find_folder(find_data_set(root, _NAMES), "test"):
            yield "GoPro/test", test

    def train_pairs(self) -> Pairs:
        """Find the training pairs."""
        pairs = self._pairs("train")
        if message := shortfall("GoPro/train", pairs, self.train_count):
            self._say(message)
        return pairs

    def val_pairs(self) -> dict[str, Pairs]:
        """Find the test images that validate."""
        return {name: spread(pairs, self.val_images) for name, pairs in super().val_pairs().items()}

    def find_set(self, name: str) -> Pairs | None:
        """Find the test pairs of GoPro or HIDE; None if they are not there."""
        if name == "GoPro":
            # Where HIDE is asked for as well, GoPro may be absent.
            alone = self.test_sets == ["GoPro"]
            return self._pairs("test") if alone or self._is_here() else None
        for place in ("HIDE", "HIDE/test", "test/HIDE"):
            if (self.root / place / "input").is_dir() or (self.root / place / "target").is_dir():
                return self._pair(self.root / place / "input", self.root / place / "target", place)
        return None

    def _is_here(self) -> bool:
        places = (
            self.root / "GoPro",
            self.root / "GOPRO_Large",
            self.root / "test" / "GoPro",
            self.root / "test/input",
        )
        return any(place.is_dir() for place in places) or any(self.root.glob("test/*/blur"))

    def _pairs(self, split: str) -> Pairs:
        folder = find_data_set(self.root, _NAMES) / split
        if (folder / "GoPro").is_dir():
            folder = folder / "GoPro"
        videos = [path.parent for path in sorted(folder.glob("*/blur"))]
        if videos:
            parts = [self._pair(video / "blur", video / "sharp", f"{split}/{video.name}") for video in videos]
            names = [f"{v.name}-{name}" for v, part in zip(videos, parts, strict=True) for name in part.names]
            return Pairs(
                tuple(path for part in parts for path in part.inputs),
                tuple(path for part in parts for path in part.targets),
                tuple(names),
            )
        if (folder / "input").is_dir():
            return self._pair(folder / "input", folder / "target", split)
        raise DataError(
            f"root ({self.root}) must hold {folder} with input and target, or blur and sharp in a folder for each "
            "video, got neither; download the data set, or check the path"
        )

    @staticmethod
    def _pair(inputs: Path, targets: Path, place: str) -> Pairs:
        return pair_folders(
            inputs,
            targets,
            input_argument=f"root's {place}/{inputs.name}",
            target_argument=f"root's {place}/{targets.name}",
        )
