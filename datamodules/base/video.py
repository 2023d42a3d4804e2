"""The base of data modules of clips: patches of some frames to train on, whole clips to evaluate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from datamodules.base.benchmark import BenchmarkDataModule
from datamodules.base.paired import PairedImageDataModule
from datamodules.base.published import find_folder
from datamodules.clips.dataset import ClipDataset
from datamodules.clips.matching import list_clips, name_of, pair_clips
from datamodules.degradations.base import Degradation
from datamodules.errors import DataError
from datamodules.pairs.degraded import CleanImages
from datamodules.pairs.matching import Pairs
from datamodules.pairs.transforms import PairedTransform

TARGETS = ("GT", "target", "sharp", "HR")
"""Names of folders of clean clips in a test set."""


class ClipDataModule(PairedImageDataModule):
    """Batches of clips, `input` (B, T, C, H, W) and `target` (B, T, C, scale·H, scale·W).

    Where the other bases count images, this class counts clips: folders of frames, or films.

    Args:
        num_frames: frames of a training sample; None: whole clips.
        reverse: play half of the training samples backwards.
        **kwargs: of `PairedImageDataModule`; `repeat` counts passes over the clips, which have one sample of each.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(self, *, num_frames: int | None = 16, reverse: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reverse = reverse
        if num_frames is not None and num_frames < 2:
            raise ValueError(f"num_frames ({num_frames}) must be at least 2; a clip of one frame is an image")
        self.num_frames = num_frames

    def scored_frames(self, count: int) -> Sequence[int]:
        """Numbers of the frames of a clip of `count` frames that are scored: all of them."""
        return range(count)

    def _dataset(self, pairs: Pairs, transform: PairedTransform | None = None, repeat: int = 1) -> Dataset:
        return ClipDataset(
            pairs,
            patch_size=None if transform is None else transform.patch_size,
            num_frames=None if transform is None else self.num_frames,
            augment=self.augment,
            reverse=self.reverse,
            repeat=repeat,
            channels=self.channels,
            scale=self.scale,
        )


class VideoDataModule(ClipDataModule, BenchmarkDataModule):
    """Named sets of clips below one folder; subclasses find them, as those of `BenchmarkDataModule` do.

    Args:
        root: the folder that holds the sets.
        num_frames: frames of a training sample; None: whole clips.
        **kwargs: of `BenchmarkDataModule` and `PairedImageDataModule`.
    """

    def __init__(self, root: Path, *, num_frames: int | None = 16, **kwargs: Any) -> None:
        super().__init__(root=root, num_frames=num_frames, **kwargs)


class VideoTestSets(VideoDataModule):
    """Clips to test on, each set in a folder of its name; their inputs beside them, or made of them.

    Layout::

        SET/{GT,INPUTS}/CLIP/00000000.png …     INPUTS is one of `input_names`
        SET/CLIP/00000000.png …                 clean clips alone

    Args:
        root: the folder that the sets are in, or a set's own.
        input_names: folders that inputs are in.
        degradation: what makes inputs where there is no such folder; None: there must be one.
        **kwargs: of `VideoDataModule`.
    """

    def __init__(
        self, root: Path, *, input_names: Sequence[str], degradation: Degradation | None, **kwargs: Any
    ) -> None:
        super().__init__(root, **kwargs)
        self.input_names = list(input_names)
        self.degradation = degradation

    def train_pairs(self) -> Pairs:
        """Refuse to train on test sets.

        Raises:
            DataError: always, unless a subclass has training clips.
        """
        raise DataError(
            f"{type(self).__name__} must have training clips to fit, got test sets only; train on those of another "
            "data module"
        )

    def is_set(self, folder: Path) -> bool:
        """Whether a folder holds clean clips, itself or in a folder for them."""
        return find_folder(folder, *TARGETS) is not None

    def find_set(self, name: str) -> Pairs | None:
        """Find a set; None if it is not there."""
        folder = self.folder_of(name)
        return None if folder is None else self.find_clips(name, folder)

    def find_clips(self, name: str, folder: Path) -> Pairs:
        """Find the clips of a set in its folder.

        Raises:
            DataError: if there are none, or no inputs and nothing to make them by.
        """
        clean = find_folder(folder, *TARGETS)
        inputs = find_folder(folder, *self.input_names)
        if inputs is not None and clean is not None:
            return pair_clips(
                inputs,
                clean,
                input_argument=f"root's {name}/{inputs.name}",
                target_argument=f"root's {name}/{clean.name}",
            )
        return self.made_of(name, clean or folder)

    def made_of(self, name: str, folder: Path) -> Pairs:
        """List clean clips, of which inputs are made.

        Raises:
            DataError: if there is nothing to make them by.
        """
        if self.degradation is None:
            raise DataError(
                f"root's {name} ({folder}) must have inputs beside it in {' or '.join(self.input_names)}, got none; "
                "download them"
            )
        clips = list_clips(folder, f"root's {name}")
        if self.input_names:
            self._say(f"{name} has no {' or '.join(self.input_names)}: inputs are made of the clean clips")
        return clean_clips(clips, self.degradation)


def clean_clips(clips: Sequence[Path], degradation: Degradation) -> CleanImages:
    """Make a set of clean clips, named as they are, and what degrades them."""
    files = tuple(clips)
    return CleanImages(files, files, tuple(name_of(clip) for clip in files), degradation)
