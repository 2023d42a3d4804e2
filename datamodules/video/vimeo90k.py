"""Vimeo-90K: short clips of super-resolution, of which the middle frame is tested."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from datamodules.base.crops import Cut, TrainingFolders
from datamodules.base.parts import Part, PublishedDataSet
from datamodules.base.published import find_folder, shortfall
from datamodules.base.video import VideoDataModule, clean_clips
from datamodules.clips.checks import check_clips
from datamodules.clips.matching import list_clips, pair_clips
from datamodules.errors import DataError
from datamodules.pairs.degraded import CleanImages
from datamodules.pairs.matching import Pairs, spread
from datamodules.video.super_resolution import Kind, downsampling

# Folders of inputs in the layout of BasicSR.
_INPUTS = {"BI": "vimeo_septuplet_matlabLRx{scale}", "BD": "vimeo_septuplet_BDLRx{scale}"}
_LISTS = {"train": "sep_trainlist.txt", "test": "sep_testlist.txt"}
# Of the clips to train on, as they are packed.
_PACKED = "Vimeo-90K-train"


class Vimeo90KDataModule(VideoDataModule, PublishedDataSet):
    """Vimeo-90K (Xue et al., IJCV 2019), septuplets, to be downloaded: 64,612 and 7,824 clips of 7 frames of 256×448.

    Its page states no licence. Layout::

        vimeo_septuplet/sequences/00001/0001/im1.png … im7.png
        vimeo_septuplet/{sep_trainlist.txt,sep_testlist.txt}
        vimeo_septuplet_matlabLRx4/sequences/…          or vimeo_septuplet_BDLRx4; may be absent: inputs are made
        Vimeo-90K-train/{GT,BIx4}/00001-0001            clips to train on, as `lowrank prepare` packs them

    Published tests let the network see a clip and the same backwards, and score the middle frame alone: `mirror` of the
    task's clips, and `scored_frames` here.

    Args:
        root: the folder `vimeo_septuplet`, or the one that it is in.
        degradation: BI, MATLAB's bicubic; or BD, a blur of σ 1.6 of which every fourth pixel is kept.
        scale: 4.
        val_clips: test clips, evenly spaced, that validate during training; 0 for none.
        num_frames: frames of a training sample, at most 7; None: all.
        **kwargs: of `VideoDataModule`.

    Raises:
        ValueError: if the degradation is another, or a number is out of range.

    Examples:
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from datamodules import Vimeo90KDataModule
        >>> from datamodules.files import write_image
        >>> for number in range(1, 8):
        ...     frame = np.full((16, 24, 3), 20 * number, np.uint8)
        ...     _ = write_image(f"vimeo_septuplet/sequences/00001/0001/im{number}.png", frame)
        >>> _ = Path("vimeo_septuplet/sep_testlist.txt").write_text("00001/0001")
        >>> data = Vimeo90KDataModule(".", num_workers=0)
        >>> data.setup("test")
        >>> sample = next(iter(data.test_dataloader()[0]))
        >>> sample["input"].shape, sample["name"], data.scored_frames(7)
        (torch.Size([1, 7, 3, 4, 6]), ['00001-0001'], [3])
    """

    counts: ClassVar[dict[str, int]] = {"Vimeo-90K-T": 7824}
    train_count: ClassVar[int] = 64612
    scales = (4,)
    published_cut = Cut(None)

    def __init__(
        self,
        root: Path,
        *,
        degradation: Kind = "BI",
        scale: int = 4,
        val_clips: int = 20,
        num_frames: int | None = None,
        **kwargs: Any,
    ) -> None:
        sets = ["Vimeo-90K-T"]
        super().__init__(
            root, num_frames=num_frames, scale=scale, val_sets=sets if val_clips else [], test_sets=sets, **kwargs
        )
        if val_clips < 0:
            raise ValueError(f"val_clips ({val_clips}) must be at least 0; 0 trains without validation")
        self.degradation = downsampling(degradation, scale)
        self.kind = degradation
        self.val_clips = val_clips

    @classmethod
    def parts(cls, root: Path, scale: int) -> Iterator[Part]:
        """List the training and the test clips."""
        data, check = cls(root, scale=scale), partial(check_clips, scale=scale, num_frames=7)
        listed = {part: (data._folder() / file).is_file() for part, file in _LISTS.items()}
        yield Part("Vimeo-90K/train", cls.train_count, data.train_pairs if listed["train"] else None, check)
        find = partial(data.test_set, "Vimeo-90K-T") if listed["test"] else None
        yield Part("Vimeo-90K-T", cls.counts["Vimeo-90K-T"], find, check)

    @classmethod
    def training_folders(cls, scale: int) -> Sequence[TrainingFolders]:
        """List the folders of packed clips; inputs are those of BI."""
        return [TrainingFolders("Vimeo-90K/train", _PACKED, f"BIx{scale}", "GT")]

    @classmethod
    def links(cls, root: Path) -> Iterator[tuple[str, Path]]:
        """List the lists and clips as downloaded, which the test clips are among, and their inputs."""
        folder = cls(root)._folder()
        if (folder / "sequences").is_dir():
            yield "vimeo_septuplet", folder
        for name in (each.format(scale=cls.scales[0]) for each in _INPUTS.values()):
            if small := find_folder(folder.parent, name):
                yield name, small

    def scored_frames(self, count: int) -> Sequence[int]:
        """Frames of a test clip that are scored: the middle one."""
        return [count // 2]

    def train_pairs(self) -> Pairs:
        """Find the training clips.

        Raises:
            DataError: if their list or one of their folders is not there.
        """
        packed = find_folder(self.root, _PACKED)
        pairs = self._listed("train") if packed is None else self._packed(packed)
        if message := shortfall("Vimeo-90K/train", pairs, self.train_count):
            self._say(message)
        return pairs

    def val_pairs(self) -> dict[str, Pairs]:
        """Find the test clips that validate."""
        return {name: spread(pairs, self.val_clips) for name, pairs in super().val_pairs().items()}

    def find_set(self, name: str) -> Pairs | None:
        """Find the test clips; None if their list is not there."""
        return self._listed("test") if (self._folder() / _LISTS["test"]).is_file() else None

    def _folder(self) -> Path:
        return find_folder(self.root, "vimeo_septuplet") or self.root

    def _packed(self, folder: Path) -> Pairs:
        clean, inputs = folder / "GT", folder / f"{self.kind}x{self.scale}"
        if inputs.is_dir():
            return pair_clips(inputs, clean, input_argument=f"root's {inputs.name}", target_argument="root's GT")
        self._say(f"{folder.name} has no {inputs.name}: inputs are made of the clean clips")
        return clean_clips(list_clips(clean, f"root's {folder.name}"), self.degradation)

    def _listed(self, part: str) -> Pairs:
        folder = self._folder()
        file = folder / _LISTS[part]
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError) as error:
            raise DataError(
                f"root ({self.root}) must hold {file}, a list of clips, got: {error}; download the set"
            ) from None
        clips = [line for line in lines if line]
        sequences = folder / "sequences"
        lacking = [clip for clip in clips if not (sequences / clip).is_dir()]
        if lacking or not clips:
            raise DataError(
                f"{file} must list clips in {sequences}, got {len(clips)}, {len(lacking)} of them without a folder: "
                f"{', '.join(lacking[:3])}; download them again"
            )
        targets = tuple(sequences / clip for clip in clips)
        names = tuple(clip.replace("/", "-") for clip in clips)
        small = folder.parent / _INPUTS[self.kind].format(scale=self.scale) / "sequences"
        if small.is_dir():
            return Pairs(tuple(small / clip for clip in clips), targets, names)
        self._say(f"Vimeo-90K has no {small.parent.name}: inputs are made of the clean clips")
        return CleanImages(targets, targets, names, self.degradation)
