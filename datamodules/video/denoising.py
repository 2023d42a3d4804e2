"""Clips of video denoising: DAVIS to train and test on, Set8 to test on, with noise that is made."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from datamodules.base.crops import Cut, TrainingFolders
from datamodules.base.parts import Part, PublishedDataSet
from datamodules.base.published import find_folder, shortfall
from datamodules.base.video import VideoTestSets, clean_clips
from datamodules.clips.checks import check_clips
from datamodules.clips.matching import list_clips
from datamodules.degradations.base import Range
from datamodules.degradations.noise import ClipNoise
from datamodules.errors import DataError
from datamodules.pairs.matching import Pairs


class DAVISDataModule(VideoTestSets, PublishedDataSet):
    """DAVIS 2017 (Pont-Tuset et al.; CC BY-NC 4.0) and Set8, to be downloaded, and white Gaussian noise, which is made.

    90 clips of DAVIS train, its 30 clips of test-dev are tested on, in 480p; Set8 has eight clips of 540×960 pixels,
    whose authors state no licence. Layout::

        DAVIS/JPEGImages/480p/CLIP/00000.jpg …     training clips, as released; also DAVIS-train/CLIP
        DAVIS-test/CLIP/00000.jpg …                also DAVIS/test-dev/JPEGImages/480p
        Set8/CLIP/00000.png …

    Inputs have four channels: colours with noise that is not clipped, and σ / 255. A tested clip has the noise of VRT's
    and RVRT's test scripts (`ClipNoise`), a training sample a new one each time.

    Args:
        root: the folder that the sets are in, or a test set's own.
        sigma: σ of the tested noise in grey levels of 255; published tables have 10, 20, 30, 40 and 50.
        train_sigma: lowest and highest σ to train with.
        val_sets: what validates during training.
        test_sets: what to test on.
        **kwargs: of `VideoDataModule`.

    Raises:
        ValueError: if a number is out of range.

    Examples:
        >>> import numpy as np
        >>> from datamodules import DAVISDataModule
        >>> from datamodules.files import write_image
        >>> for number in range(3):
        ...     _ = write_image(f"Set8/tractor/{number}.png", np.full((16, 24, 3), 128, np.uint8))
        >>> data = DAVISDataModule(".", sigma=20, test_sets=["Set8"], num_workers=0)
        >>> data.setup("test")
        >>> sample = next(iter(data.test_dataloader()[0]))
        >>> sample["input"].shape, round(float(255 * (sample["input"][:, :, :3] - sample["target"]).std()), 1)
        (torch.Size([1, 3, 4, 16, 24]), 20.0)
    """

    counts: ClassVar[dict[str, int]] = {"DAVIS": 30, "Set8": 8}
    aliases: ClassVar[dict[str, tuple[str, ...]]] = {"DAVIS": ("DAVIS-test",)}
    train_count: ClassVar[int] = 90
    published_cut = Cut(None)

    def __init__(
        self,
        root: Path,
        *,
        sigma: float = 50.0,
        train_sigma: Range = (0.0, 50.0),
        val_sets: Sequence[str] = ("Set8",),
        test_sets: Sequence[str] = ("DAVIS", "Set8"),
        **kwargs: Any,
    ) -> None:
        noise = ClipNoise((sigma, sigma), benchmark=True)
        super().__init__(root, input_names=[], degradation=noise, val_sets=val_sets, test_sets=test_sets, **kwargs)
        self.training_noise = ClipNoise((float(train_sigma[0]), float(train_sigma[1])))

    @classmethod
    def parts(cls, root: Path, scale: int) -> Iterator[Part]:
        """List the training clips, and the test sets."""
        data = cls(root)
        there = data._training() is not None
        yield Part("DAVIS/train", cls.train_count, data.train_pairs if there else None, check_clips)
        for name, published in cls.counts.items():
            there = data.folder_of(name) is not None
            yield Part(name, published, partial(data.test_set, name) if there else None, check_clips)

    @classmethod
    def training_folders(cls, scale: int) -> Sequence[TrainingFolders]:
        """List the folder of packed clips."""
        return [TrainingFolders("DAVIS/train", "DAVIS-train", "", "GT")]

    @classmethod
    def links(cls, root: Path) -> Iterator[tuple[str, Path]]:
        """List the test sets."""
        data = cls(root)
        for name, place in (("DAVIS", "DAVIS-test"), ("Set8", "Set8")):
            if folder := data.folder_of(name):
                yield place, folder

    def folder_of(self, name: str) -> Path | None:
        """The folder of a test set; that of DAVIS is not the one of its training clips."""
        if name != "DAVIS":
            return super().folder_of(name)
        places = (self.root, find_folder(self.root, "DAVIS") or self.root)
        found = [find_folder(places[0], "DAVIS-test", "DAVIS-test-dev"), find_folder(places[1], "test-dev")]
        folder = next((folder for folder in found if folder is not None), None)
        return None if folder is None else _frames_of(folder)

    def train_pairs(self) -> Pairs:
        """Find the training clips.

        Raises:
            DataError: if there are none.
        """
        folder = self._training()
        if folder is None:
            raise DataError(
                f"root ({self.root}) must hold DAVIS/JPEGImages/480p or DAVIS-train with clips, got "
                f"{self._entries()}; download the set, or check the path"
            )
        pairs = clean_clips(list_clips(folder, f"root's {folder.name}"), self.training_noise)
        if message := shortfall("DAVIS/train", pairs, self.train_count):
            self._say(message)
        return pairs

    def _training(self) -> Path | None:
        folder = find_folder(self.root, "DAVIS-train")
        if folder is not None:
            return find_folder(folder, "GT") or folder
        inner = (find_folder(self.root, "DAVIS") or self.root) / "JPEGImages"
        return find_folder(inner, "480p")


def _frames_of(folder: Path) -> Path:
    """The folder of clips in the released layout, or the folder itself."""
    released = folder / "JPEGImages/480p"
    return released if released.is_dir() else folder
