"""Clips of video deblurring: GoPro and DVD, made by averaging the frames of high-speed films."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from datamodules.base.crops import Cut, TrainingFolders
from datamodules.base.parts import Part, PublishedDataSet
from datamodules.base.published import find_folder, shortfall
from datamodules.base.video import VideoDataModule
from datamodules.clips.checks import check_clips
from datamodules.clips.matching import pair_clips
from datamodules.errors import DataError
from datamodules.pairs.matching import Pairs, select, spread

# Folders of clips of a part: inputs and targets.
_OF_PARTS = (("{part}_GT_blurred", "{part}_GT"), ("{part}/blur", "{part}/GT"), ("{part}/input", "{part}/target"))
# Folders in that of a clip.
_OF_CLIPS = (("blur", "sharp"), ("input", "GT"))


class DeblurringClips(VideoDataModule, PublishedDataSet):
    """Clips of one data set of video deblurring; subclasses name it.

    Args:
        root: its folder, or the one that it is in.
        val_clips: test clips, evenly spaced, that validate during training; 0 for none. There is no validation split,
            and published recipes watch the test set.
        **kwargs: of `VideoDataModule`.

    Attributes:
        set_name: of the data set.
        folders: what its folder may be called.
        train_count: clips to train on, as published.
        tested: names of test clips, where training and test clips lie in one folder.

    Raises:
        ValueError: if a number is out of range.
    """

    set_name: ClassVar[str]
    folders: ClassVar[tuple[str, ...]]
    train_count: ClassVar[int]
    tested: ClassVar[tuple[str, ...]] = ()
    published_cut = Cut(None)

    def __init__(self, root: Path, *, val_clips: int = 2, **kwargs: Any) -> None:
        super().__init__(root, val_sets=[self.set_name] if val_clips else [], test_sets=[self.set_name], **kwargs)
        if val_clips < 0:
            raise ValueError(f"val_clips ({val_clips}) must be at least 0; 0 trains without validation")
        self.val_clips = val_clips

    @classmethod
    def parts(cls, root: Path, scale: int) -> Iterator[Part]:
        """List the training and the test clips."""
        data = cls(root)
        for part, published, find in (
            ("train", cls.train_count, data.train_pairs),
            ("test", cls.counts[cls.set_name], partial(data.test_set, cls.set_name)),
        ):
            there = data._find(part) is not None
            yield Part(f"{cls.set_name}/{part}", published, find if there else None, check_clips)

    @classmethod
    def training_folders(cls, scale: int) -> Sequence[TrainingFolders]:
        """List the folders of packed clips."""
        return [TrainingFolders(f"{cls.set_name}/train", f"{cls.folders[0]}/train", "input", "target")]

    @classmethod
    def links(cls, root: Path) -> Iterator[tuple[str, Path]]:
        """List the folders of test clips."""
        folder = cls(root)._folder()
        for name in ("test", "test_GT", "test_GT_blurred"):
            if test := find_folder(folder, name):
                yield f"{cls.folders[0]}/{name}", test

    def train_pairs(self) -> Pairs:
        """Find the training clips.

        Raises:
            DataError: if there are none.
        """
        pairs = self._find("train")
        if pairs is None:
            raise DataError(
                f"root ({self.root}) must hold training clips of {self.set_name} in one of its layouts, got "
                f"{self._entries()}; download the data set, or check the path"
            )
        if message := shortfall(f"{self.set_name}/train", pairs, self.train_count):
            self._say(message)
        return pairs

    def val_pairs(self) -> dict[str, Pairs]:
        """Find the test clips that validate."""
        return {name: spread(pairs, self.val_clips) for name, pairs in super().val_pairs().items()}

    def find_set(self, name: str) -> Pairs | None:
        """Find the test clips; None if they are not there."""
        return self._find("test")

    def _folder(self) -> Path:
        return find_folder(self.root, *self.folders) or self.root

    def _find(self, part: str) -> Pairs | None:
        folder = self._folder()
        for inputs, targets in _OF_PARTS:
            blurred, sharp = folder / inputs.format(part=part), folder / targets.format(part=part)
            if blurred.is_dir() and sharp.is_dir():
                return pair_clips(
                    blurred, sharp, input_argument=f"root's {blurred.name}", target_argument=f"root's {sharp.name}"
                )
        for place in (folder / part, *(folder / name for name in ("quantitative_datasets", "."))):
            clips = self._by_clip(place)
            if clips is not None and place.name == part:
                return clips
            if clips is not None and self.tested:
                chosen = [n for n, name in enumerate(clips.names) if (name in self.tested) == (part == "test")]
                return select(clips, chosen) if chosen else None
        return None

    @staticmethod
    def _by_clip(folder: Path) -> Pairs | None:
        """Clips in a folder of which each has folders for its two halves; None if there are none."""
        clips = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        for blurred, sharp in _OF_CLIPS:
            found = [clip for clip in clips if (clip / blurred).is_dir() and (clip / sharp).is_dir()]
            if found:
                return Pairs(
                    tuple(clip / blurred for clip in found),
                    tuple(clip / sharp for clip in found),
                    tuple(clip.name for clip in found),
                )
        return None


class GoProVideoDataModule(DeblurringClips):
    """GoPro (Nah, Kim and Lee, CVPR 2017; CC BY 4.0) as clips, to be downloaded: 22 to train and 11 to test on.

    Layouts::

        GOPRO_Large/{train,test}/GOPRxxxx_xx_xx/{blur,sharp}/000001.png …        as released
        GoPro/{train_GT,train_GT_blurred,test_GT,test_GT_blurred}/CLIP/*.png      as VRT and RVRT arrange it
        GoPro/{train,test}/{input,target}/CLIP/*.png                              as `lowrank prepare` packs it

    Args:
        root: its folder, or the one that it is in.
        val_clips: test clips, evenly spaced, that validate during training; 0 for none.
        **kwargs: of `VideoDataModule`.

    Raises:
        ValueError: if a number is out of range.

    Examples:
        >>> import numpy as np
        >>> from datamodules import GoProVideoDataModule
        >>> from datamodules.files import write_image
        >>> for half in ("blur", "sharp"):
        ...     for number in range(3):
        ...         _ = write_image(f"GoPro/test/GOPR1_01/{half}/{number}.png", np.full((16, 24, 3), 200, np.uint8))
        >>> data = GoProVideoDataModule("GoPro", num_workers=0)
        >>> data.setup("test")
        >>> next(iter(data.test_dataloader()[0]))["input"].shape
        torch.Size([1, 3, 3, 16, 24])
    """

    set_name = "GoPro"
    folders = ("GoPro", "GOPRO_Large")
    train_count = 22
    counts: ClassVar[dict[str, int]] = {"GoPro": 11}


class DVDDataModule(DeblurringClips):
    """DVD (Su et al., CVPR 2017), to be downloaded: 61 clips to train and 10 to test on, 720×1280.

    Its page states no licence. Layouts::

        DVD/quantitative_datasets/CLIP/{input,GT}/00000.jpg …                     as released, tested clips among them
        DVD/{train_GT,train_GT_blurred,test_GT,test_GT_blurred}/CLIP/*.jpg        as VRT and RVRT arrange it
        DVD/{train,test}/{input,target}/CLIP/*.png                                as `lowrank prepare` packs it

    Args:
        root: its folder, or the one that it is in.
        val_clips: test clips, evenly spaced, that validate during training; 0 for none.
        **kwargs: of `VideoDataModule`.

    Raises:
        ValueError: if a number is out of range.

    Examples:
        >>> import numpy as np
        >>> from datamodules import DVDDataModule
        >>> from datamodules.files import write_image
        >>> for half in ("input", "GT"):
        ...     for number in range(3):
        ...         frame = np.full((16, 24, 3), 200, np.uint8)
        ...         _ = write_image(f"DVD/quantitative_datasets/IMG_0021/{half}/{number}.png", frame)
        >>> data = DVDDataModule("DVD", num_workers=0)
        >>> data.setup("test")
        >>> next(iter(data.test_dataloader()[0]))["name"]
        ['IMG_0021']
    """

    set_name = "DVD"
    folders = ("DVD", "DeepVideoDeblurring_Dataset")
    train_count = 61
    counts: ClassVar[dict[str, int]] = {"DVD": 10}
    tested = (
        *("720p_240fps_2", "IMG_0003", "IMG_0021", "IMG_0030", "IMG_0031"),
        *("IMG_0032", "IMG_0033", "IMG_0037", "IMG_0039", "IMG_0049"),
    )
