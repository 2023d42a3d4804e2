"""REDS for video super-resolution, with its test set REDS4."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from datamodules.base.benchmark import join
from datamodules.base.crops import Cut, TrainingFolders
from datamodules.base.parts import Part, PublishedDataSet
from datamodules.base.published import find_folder, shortfall
from datamodules.base.video import VideoTestSets, clean_clips
from datamodules.clips.checks import check_clips
from datamodules.clips.matching import list_clips, pair_clips
from datamodules.errors import DataError
from datamodules.pairs.matching import Pairs, select
from datamodules.video.super_resolution import downsampling

REDS4 = ("000", "011", "015", "020")
"""Clips of REDS' training set that are tested on, and not trained on."""

# The clips of REDS' validation set are trained on after those of the training set, under the next numbers.
_FIRST_OF_VALIDATION = 240


class REDSDataModule(VideoTestSets, PublishedDataSet):
    """REDS (Nah et al., CVPR Workshops 2019; CC BY 4.0), to be downloaded: 270 clips of 100 frames of 720×1280.

    Of the 240 training and 30 validation clips together four are REDS4, to test on; 266 train. Layout::

        REDS/train_sharp/000/00000000.png …             as released; also train/train_sharp
        REDS/train_sharp_bicubic/X4/000/00000000.png …  where it is not there, inputs are made by MATLAB's bicubic
        REDS/val_sharp, REDS/val_sharp_bicubic/X4       their clips count as 240 to 269; may be absent
        REDS4/{GT,BIx4}/000/00000000.png …              the test set alone

    Args:
        root: the folder `REDS`, or the one that it or `REDS4` is in.
        scale: 4.
        val_sets: what validates during training.
        test_sets: what to test on.
        **kwargs: of `VideoDataModule`.

    Raises:
        ValueError: if a number is out of range.

    Examples:
        >>> import numpy as np
        >>> from datamodules import REDSDataModule
        >>> from datamodules.files import write_image
        >>> for clip in ("000", "001"):
        ...     for number in range(4):
        ...         _ = write_image(f"REDS/train_sharp/{clip}/{number:08}.png", np.full((32, 48, 3), 200, np.uint8))
        >>> data = REDSDataModule("REDS", num_frames=3, patch_size=8, batch_size=2, repeat=2, num_workers=0)
        >>> data.setup("fit")
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch["input"].shape, batch["target"].shape, batch["name"]
        (torch.Size([2, 3, 3, 8, 8]), torch.Size([2, 3, 3, 32, 32]), ['001', '001'])
        >>> [sample["name"] for sample in data.val_dataloader()[0].dataset]
        ['000']
    """

    counts: ClassVar[dict[str, int]] = {"REDS4": 4}
    train_count: ClassVar[int] = 266
    scales = (4,)
    published_cut = Cut(None)

    def __init__(
        self,
        root: Path,
        *,
        scale: int = 4,
        val_sets: Sequence[str] = ("REDS4",),
        test_sets: Sequence[str] = ("REDS4",),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            root,
            input_names=[f"BIx{scale}", "sharp_bicubic"],
            degradation=downsampling("BI", scale),
            scale=scale,
            val_sets=val_sets,
            test_sets=test_sets,
            **kwargs,
        )

    @classmethod
    def parts(cls, root: Path, scale: int) -> Iterator[Part]:
        """List the training clips and REDS4."""
        data, check = cls(root, scale=scale), partial(check_clips, scale=scale)
        there = data._sharp("train") is not None
        yield Part("REDS/train", cls.train_count, data.train_pairs if there else None, check)
        there = there or data.folder_of("REDS4") is not None
        yield Part("REDS4", cls.counts["REDS4"], partial(data.test_set, "REDS4") if there else None, check)

    @classmethod
    def training_folders(cls, scale: int) -> Sequence[TrainingFolders]:
        """List the folders of packed clips."""
        return [TrainingFolders("REDS/train", "REDS", f"train_sharp_bicubic/X{scale}", "train_sharp")]

    @classmethod
    def links(cls, root: Path) -> Iterator[tuple[str, Path]]:
        """List REDS4, in a folder of its own or clip by clip: they are not packed with those to train on."""
        data = cls(root)
        if folder := data.folder_of("REDS4"):
            yield "REDS4", folder
        elif pairs := data.find_set("REDS4"):
            halves = {"GT": pairs.targets} | ({} if pairs.inputs == pairs.targets else {"BIx4": pairs.inputs})
            for half, clips in halves.items():
                yield from ((f"REDS4/{half}/{clip.name}", clip) for clip in clips)

    def train_pairs(self) -> Pairs:
        """Find the training clips: those of the released training and validation sets but REDS4.

        Raises:
            DataError: if there are none.
        """
        parts = {part: self._released(part) for part in ("train", "val") if self._sharp(part)}
        if "train" not in parts:
            raise DataError(
                f"root ({self.root}) must hold REDS/train_sharp with a folder of frames for each clip, got "
                f"{self._entries()}; download the set, or check the path"
            )
        names = [*parts["train"].names]
        names += [f"{_FIRST_OF_VALIDATION + int(name):03}" for name in parts["val"].names] if "val" in parts else []
        pairs = replace(join(parts, "root"), names=tuple(names))
        pairs = select(pairs, [index for index, name in enumerate(pairs.names) if name not in REDS4])
        if message := shortfall("REDS/train", pairs, self.train_count):
            self._say(message)
        return pairs

    def find_set(self, name: str) -> Pairs | None:
        """Find REDS4 in a folder of its own, or among the training clips; None if it is in neither."""
        if (found := super().find_set(name)) is not None or name != "REDS4" or self._sharp("train") is None:
            return found
        pairs = self._released("train")
        chosen = [index for index, clip in enumerate(pairs.names) if clip in REDS4]
        return select(pairs, chosen) if chosen else None

    def _sharp(self, part: str) -> Path | None:
        for base in (find_folder(self.root, "REDS") or self.root, self.root):
            for place in (base, base / part):
                if folder := find_folder(place, f"{part}_sharp"):
                    return folder
        return None

    def _released(self, part: str) -> Pairs:
        sharp = self._sharp(part)
        if sharp is None:
            raise DataError(f"root ({self.root}) must hold {part}_sharp, got none; download it")
        small = sharp.parent / f"{part}_sharp_bicubic" / f"X{self.scale}"
        if small.is_dir():
            return pair_clips(
                small, sharp, input_argument=f"root's {small.parent.name}", target_argument=f"root's {sharp.name}"
            )
        self._say(f"REDS has no {small.parent.name}/{small.name}: inputs are made by bicubic reduction")
        return clean_clips(list_clips(sharp, f"root's {sharp.name}"), downsampling("BI", self.scale))
