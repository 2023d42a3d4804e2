"""SIDD: photographs of smartphones with the noise of their sensors, and clean ones averaged of many."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray
from torch.utils.data import Dataset

from datamodules.base.checks import check_pair
from datamodules.base.crops import Cut, TrainingFolders
from datamodules.base.paired import PairedImageDataModule
from datamodules.base.parts import Part, PublishedDataSet
from datamodules.base.published import counted, find_folder, shortfall
from datamodules.errors import DataError, refuse
from datamodules.files.cubes import read_blocks
from datamodules.files.images import convert_channels, list_images, to_tensor
from datamodules.pairs.matching import Pairs, pair_folders
from datamodules.pairs.transforms import PairedTransform

# Folders of the two halves, as Uformer, Restormer and NAFNet arrange them.
_HALVES = (("input", "groundtruth"), ("input_crops", "target_crops"), ("input_crops", "gt_crops"), ("input", "target"))
# The files of the validation blocks, and the variables in them.
_NOISY, _CLEAN = "ValidationNoisyBlocksSrgb", "ValidationGtBlocksSrgb"
_RELEASED = "Validation*.mat"
_VALIDATION = ("", "test", "val", "validation")


@dataclass(frozen=True)
class BlockPairs(Pairs):
    """Two files of blocks: `inputs` and `targets` are one file each, `names` has a name for each block.

    Attributes:
        noisy: shape (scenes, blocks, H, W, 3), uint8.
        clean: the same.
    """

    noisy: NDArray
    clean: NDArray

    def __len__(self) -> int:
        return len(self.names)


class SIDDDataModule(PairedImageDataModule, PublishedDataSet):
    """SIDD (Abdelhamed, Lin and Brown, CVPR 2018), to be downloaded by the user under the terms of its page.

    Crops of the 320 pairs of SIDD-Medium train; repositories cut them differently. The 1280 validation blocks of
    256×256 validate and test (the clean blocks of the benchmark are not public). Layout::

        SIDD/train/{input,groundtruth}                                     as Uformer's script cuts them, or
        SIDD/train/{input_crops,target_crops} or {input_crops,gt_crops}    as Restormer's and NAFNet's do
        SIDD/ValidationNoisyBlocksSrgb.mat, ValidationGtBlocksSrgb.mat     as released (40×32×256×256×3), or in test
        SIDD/{test,val}/{input,groundtruth}                                the same blocks, or others, as images

    A block of the files is called `0001_01` (scene, block). The files are kept in memory whole, 503 MB.

    Args:
        root: the folder `SIDD`, or the one that it is in.
        **kwargs: of `PairedImageDataModule`.

    Examples:
        >>> import numpy as np
        >>> from datamodules.files import write_image
        >>> from datamodules import SIDDDataModule
        >>> for place in ("train/input", "train/groundtruth", "val/input", "val/groundtruth"):
        ...     _ = write_image(f"SIDD/{place}/1.png", np.full((32, 48, 3), 200, np.uint8))
        >>> data = SIDDDataModule("SIDD", patch_size=16, batch_size=1, num_workers=0)
        >>> data.setup("fit")
        >>> data.val_set_names, data.published_counts
        (['SIDD'], {'SIDD': 1280})
    """

    medium_count: ClassVar[int] = 320
    """Pairs of SIDD-Medium."""
    counts: ClassVar[dict[str, int]] = {"SIDD": 1280}
    published_cut = Cut(256, random=300)
    """Uformer's."""

    def __init__(self, root: Path, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)

    @property
    def published_counts(self) -> dict[str, int]:
        """Number of validation blocks, as published."""
        return self.counts

    @classmethod
    def parts(cls, root: Path, scale: int) -> Iterator[Part]:
        """List SIDD-Medium as released, the training crops, and the validation blocks."""
        data, medium = cls(root), _find_medium(root)
        yield Part("SIDD-Medium", cls.medium_count, partial(cls._medium_pairs, medium) if medium else None)
        bases = [folder for folder in data._bases() if folder.is_dir()]
        crops = any((base / "train").is_dir() for base in bases)
        yield Part("SIDD/train", None, data.train_pairs if crops else None)
        blocks = any(find_folder(base, *filter(None, _VALIDATION)) or [*base.glob(_RELEASED)] for base in bases)
        yield Part("SIDD", cls.counts["SIDD"], partial(data.test_set, "SIDD") if blocks else None, _check_unread)

    @classmethod
    def training_folders(cls, scale: int) -> Sequence[TrainingFolders]:
        """List the folder that Uformer's crops are in."""
        return [TrainingFolders("SIDD-Medium", "SIDD/train", "input", "groundtruth")]

    @classmethod
    def links(cls, root: Path) -> Iterator[tuple[str, Path]]:
        """List the validation blocks."""
        for base in cls(root)._bases():
            folders = [find_folder(base, name) for name in filter(None, _VALIDATION)]
            for path in [*sorted(base.glob(_RELEASED)), *filter(None, folders)]:
                yield f"SIDD/{path.name}", path

    @classmethod
    def _medium_pairs(cls, folder: Path) -> Pairs:
        return counted("SIDD-Medium", medium_pairs(folder), cls.medium_count)

    def train_pairs(self) -> Pairs:
        """Find the training crops.

        Raises:
            DataError: if the root holds none.
        """
        pairs = self._folders("train")
        if pairs is None:
            halves = ", ".join("{" + ",".join(pair) + "}" for pair in _HALVES)
            raise DataError(
                f"root ({self.root}) must hold train with {halves}, got none; cut the crops by the script of Uformer "
                "or Restormer, or check the path"
            )
        return pairs

    def val_pairs(self) -> dict[str, Pairs]:
        """Find the validation blocks."""
        return self.test_pairs()

    def test_pairs(self) -> dict[str, Pairs]:
        """Find the validation blocks, as released or as images.

        Raises:
            DataError: if the root holds neither.
        """
        pairs = self._blocks() or next(filter(None, map(self._folders, _VALIDATION)), None)
        if pairs is None:
            raise DataError(
                f"root ({self.root}) must hold {_NOISY}.mat and {_CLEAN}.mat, or test or val with input and "
                "groundtruth, got neither; download the data set, or check the path"
            )
        if message := shortfall("SIDD", pairs, self.counts["SIDD"]):
            self._say(message)
        return {"SIDD": pairs}

    def _bases(self) -> tuple[Path, Path]:
        return self.root / "SIDD", self.root

    def _folders(self, split: str) -> Pairs | None:
        for base in self._bases():
            for noisy, clean in _HALVES:
                inputs, targets = base / split / noisy, base / split / clean
                # Another arrangement may share the first half.
                if inputs.is_dir() and (targets.is_dir() or (noisy, clean) == _HALVES[-1]):
                    return pair_folders(
                        inputs,
                        targets,
                        input_argument=f"root's {split}/{noisy}",
                        target_argument=f"root's {split}/{clean}",
                    )
        return None

    def _blocks(self) -> Pairs | None:
        for folder in (base / split for base in self._bases() for split in _VALIDATION):
            noisy, clean = folder / f"{_NOISY}.mat", folder / f"{_CLEAN}.mat"
            if noisy.is_file() or clean.is_file():
                return read_block_pairs(noisy, clean)
        return None

    def _dataset(self, pairs: Pairs, transform: PairedTransform | None = None, repeat: int = 1) -> Dataset:
        if isinstance(pairs, BlockPairs):
            return BlockDataset(pairs, channels=self.channels)
        return super()._dataset(pairs, transform, repeat)


class BlockDataset(Dataset[dict[str, object]]):
    """Takes pairs of blocks, each a dict of `input`, `target` (float32 in [0, 1]) and `name`.

    Args:
        pairs: the blocks.
        channels: 1 or 3, see `convert_channels`.

    Raises:
        ValueError: if `channels` is another.
    """

    def __init__(self, pairs: BlockPairs, *, channels: int = 3) -> None:
        if channels not in (1, 3):
            raise ValueError(f"channels ({channels}) must be 1 (grey) or 3 (RGB)")
        self.pairs = pairs
        self.channels = channels

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, object]:
        """Take the blocks of one place.

        Args:
            index: 0 ≤ index < len(self).

        Returns:
            `input` and `target` of shape (channels, H, W), `name`.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index ({index}) must be in [0, {len(self)})")
        place = divmod(index, self.pairs.noisy.shape[1])
        noisy, clean = (convert_channels(array[place], self.channels) for array in (self.pairs.noisy, self.pairs.clean))
        return {"input": to_tensor(noisy), "target": to_tensor(clean), "name": self.pairs.names[index]}


def _check_unread(noisy: Path, clean: Path) -> list[str]:
    """Read a pair of images; files of blocks have been read when they were found."""
    return [] if noisy.suffix.lower() == ".mat" else check_pair(noisy, clean)


def _find_medium(root: Path) -> Path | None:
    """The folder of SIDD-Medium's scenes as released; None if it is not in `root`."""
    for base in (root, root / "SIDD"):
        folder = find_folder(base, "SIDD_Medium_Srgb") or base
        if data := find_folder(folder, "Data"):
            return data
    return None


def medium_pairs(folder: Path) -> Pairs:
    """Match the images of SIDD-Medium as released: `0001_NOISY_SRGB_010.PNG` with `0001_GT_SRGB_010.PNG`.

    Args:
        folder: `SIDD_Medium_Srgb/Data`, with a folder for each scene.

    Returns:
        The pairs, named `0001_010`.

    Raises:
        DataError: if a noisy or a clean image is without the other.
    """
    found: dict[str, dict[str, Path]] = {"NOISY": {}, "GT": {}}
    for scene in sorted(path for path in folder.iterdir() if path.is_dir()):
        for path in list_images(scene, f"root's {scene.name}"):
            for kind, files in found.items():
                number, mark, rest = path.stem.upper().partition(f"_{kind}_SRGB")
                if mark:
                    files[number + rest] = path
    noisy, clean = found["NOISY"], found["GT"]
    names = sorted(noisy.keys() & clean.keys())
    alone = [(noisy.get(name) or clean[name]) for name in sorted(noisy.keys() ^ clean.keys())]
    if alone or not names:
        refuse(
            f"root's {folder.name} ({folder}) must hold a NOISY_SRGB and a GT_SRGB image of every number, got "
            f"{len(names)} pairs and {len(alone)} images alone: {', '.join(path.name for path in alone[:5])}; add the "
            "missing files",
            [f"image {path} must have a counterpart beside it, got none; add the missing file" for path in alone],
        )
    return Pairs(tuple(noisy[name] for name in names), tuple(clean[name] for name in names), tuple(names))


def read_block_pairs(noisy: Path, clean: Path) -> BlockPairs:
    """Read SIDD's two files of validation blocks.

    Args:
        noisy: `ValidationNoisyBlocksSrgb.mat`, of any MATLAB version.
        clean: `ValidationGtBlocksSrgb.mat`.

    Returns:
        The pairs, named by scene and block.

    Raises:
        DataError: if a file is missing, damaged, or holds no such blocks, or the two do not match.
    """
    blocks = read_blocks(noisy, _NOISY), read_blocks(clean, _CLEAN)
    if blocks[0].shape != blocks[1].shape:
        raise DataError(
            f"blocks of {clean} must be as many and as large as those of {noisy}, {blocks[0].shape}, got "
            f"{blocks[1].shape}; download both again"
        )
    scenes, count = blocks[0].shape[:2]
    names = tuple(f"{scene:04}_{block:02}" for scene in range(1, scenes + 1) for block in range(1, count + 1))
    return BlockPairs((noisy,), (clean,), names, *blocks)
