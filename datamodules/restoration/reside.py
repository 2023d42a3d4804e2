"""RESIDE: hazy photographs, synthesised from clean ones and their depth."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from datamodules.base.checks import check_pair
from datamodules.base.crops import Cut, TrainingFolders
from datamodules.base.paired import PairedImageDataModule
from datamodules.base.parts import Part, PublishedDataSet
from datamodules.base.published import counted, shortfall
from datamodules.errors import DataError, refuse
from datamodules.files.images import list_images
from datamodules.pairs.matching import Pairs

Subset = Literal["RESIDE-IN", "RESIDE-OUT", "RESIDE-6K", "RSHaze"]


class RESIDEDataModule(PairedImageDataModule, PublishedDataSet):
    """RESIDE (Li et al., TIP 2019) and RS-Haze, to be downloaded by the user; its page allows research only.

    Either layout::

        RESIDE-IN/{train,test}/{hazy,GT}    as DehazeFormer arranges each subset, the same names in both folders
        SOTS-indoor/{hazy,GT}               a test set as released: 1400_1.png to 1400_10.png are hazes of 1400.png

    A hazy image's name may go on after its scene's with an underscore; a clean image that is larger than its hazy one
    is cropped at the centre, as DehazeFormer's scripts do.

    Args:
        root: the subset's folder, or the one that it is in.
        subset: which subset, where `root` holds several.
        **kwargs: of `PairedImageDataModule`.

    Raises:
        ValueError: if `subset` is unknown.

    Examples:
        >>> import numpy as np
        >>> from datamodules.files import write_image
        >>> from datamodules import RESIDEDataModule
        >>> _ = write_image("SOTS-indoor/hazy/1400_1.png", np.full((32, 48, 3), 200, np.uint8))
        >>> _ = write_image("SOTS-indoor/GT/1400.png", np.full((36, 52, 3), 200, np.uint8))
        >>> data = RESIDEDataModule("SOTS-indoor", num_workers=0)
        >>> data.setup("test")
        >>> sample = next(iter(data.test_dataloader()[0]))
        >>> sample["name"], sample["target"].shape
        (['1400_1'], torch.Size([1, 3, 32, 48]))
    """

    subset_counts: ClassVar[dict[str, dict[str, int]]] = {
        "RESIDE-IN": {"train": 13990, "test": 500},
        "RESIDE-OUT": {"train": 313950, "test": 500},
        "RESIDE-6K": {"train": 6000, "test": 1000},
        "RSHaze": {"train": 51300, "test": 2700},
    }
    """Training and test pairs as DehazeFormer arranges the subsets."""
    sots_counts: ClassVar[dict[str, int]] = {"SOTS-indoor": 500, "SOTS-outdoor": 500}
    """The test sets of RESIDE-IN and RESIDE-OUT by the names that they were released by."""
    published_cut = Cut(None)
    crops_targets = True

    def __init__(self, root: Path, *, subset: Subset = "RESIDE-IN", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if subset not in get_args(Subset):
            raise ValueError(f"subset ({subset}) must be one of {', '.join(get_args(Subset))}")
        self.root = Path(root)
        self.subset: Subset = subset

    @property
    def published_counts(self) -> dict[str, int]:
        """Number of images of the test set that was found, if it goes by a published name."""
        counts = {self.subset: self.subset_counts[self.subset]["test"], **self.sots_counts}
        return {name: counts[name] for name in self.test_set_names or self.val_set_names if name in counts}

    @classmethod
    def parts(cls, root: Path, scale: int) -> Iterator[Part]:
        """List the pairs of every subset in `root`, and its released test sets; of a `root` without any, all names."""
        check = partial(check_pair, crop_targets=True)
        here = [name for name in get_args(Subset) if (root / name).is_dir()]
        subsets = here or [name for name in get_args(Subset) if name == root.resolve().name]
        released = [folder for name in cls.sots_counts if (folder := root / name).is_dir()]
        if (root / "hazy").is_dir():
            released.append(root)
        for subset in subsets:
            data, folder = cls(root, subset=subset), root / subset if here else root
            finds: dict[str, Callable[[], Pairs]] = {"train": data.train_pairs, "test": partial(data.test_set, subset)}
            for split, published in cls.subset_counts[subset].items():
                find = finds[split] if (folder / split).is_dir() else None
                yield Part(f"{subset}/{split}", published, find, check)
        for folder in released:
            name = folder.resolve().name
            count = cls.sots_counts.get(name)
            yield Part(name, count, partial(_released_pairs, folder, name, count), check)
        if not (subsets or released):
            for name in (*get_args(Subset), *cls.sots_counts):
                yield Part(name, None, None)

    @classmethod
    def training_folders(cls, scale: int) -> Sequence[TrainingFolders]:
        """List the training folder of every subset."""
        return [TrainingFolders(f"{name}/train", f"{name}/train", "hazy", "GT") for name in get_args(Subset)]

    @classmethod
    def links(cls, root: Path) -> Iterator[tuple[str, Path]]:
        """List the test pairs of every subset."""
        for name in get_args(Subset):
            for base in (root / name, root):
                if (test := base / "test").is_dir() and base.resolve().name == name:
                    yield f"{name}/test", test

    def train_pairs(self) -> Pairs:
        """Find the training pairs."""
        return self._pairs("train")

    def val_pairs(self) -> dict[str, Pairs]:
        """Find the test pairs: no split validates, and published recipes watch the test set."""
        return self.test_pairs()

    def test_pairs(self) -> dict[str, Pairs]:
        """Find the test pairs."""
        for folder in (self.root, self.root / "SOTS-indoor", self.root / "SOTS-outdoor"):
            if (folder / "hazy").is_dir():
                return {folder.resolve().name: scene_pairs(folder / "hazy", folder / "GT")}
        return {self.subset: self._pairs("test")}

    def _pairs(self, split: str) -> Pairs:
        for folder in (self.root / self.subset / split, self.root / split):
            if folder.is_dir():
                pairs = scene_pairs(folder / "hazy", folder / "GT")
                if message := shortfall(f"{self.subset}/{split}", pairs, self.subset_counts[self.subset][split]):
                    self._say(message)
                return pairs
        raise DataError(
            f"root ({self.root}) must hold {self.subset}/{split} or {split}, with hazy and GT inside, or for a test "
            "hazy and GT themselves, got neither; download the data set, or check the path"
        )


def _released_pairs(folder: Path, name: str, published: int | None) -> Pairs:
    pairs = RESIDEDataModule(folder).test_set(name)
    return pairs if published is None else counted(name, pairs, published)


def scene_pairs(hazy: Path, clean: Path) -> Pairs:
    """Match hazy images with the clean images of their scenes.

    Args:
        hazy: folder of hazy images, named as their scene, or the scene's name, an underscore and more.
        clean: folder of clean images, one a scene.

    Returns:
        The pairs, sorted by the hazy file's name.

    Raises:
        DataError: if a folder is missing or empty, or a hazy image's scene is missing.
    """
    scenes = {path.stem: path for path in list_images(clean, "root's GT")}
    inputs = list_images(hazy, "root's hazy")
    targets = [scenes.get(path.stem) or scenes.get(path.stem.partition("_")[0]) for path in inputs]
    matched = [(path, target) for path, target in zip(inputs, targets, strict=True) if target]
    alone = [path.name for path, target in zip(inputs, targets, strict=True) if target is None]
    if alone:
        refuse(
            f"root's GT ({clean}) must hold the scene of every image in {hazy}, got none for {len(alone)}: "
            f"{', '.join(alone[:5])}; add the missing files",
            [f"image {hazy / name} must have its scene in {clean}, got none; add the missing file" for name in alone],
        )
    return Pairs(
        tuple(path for path, _ in matched),
        tuple(target for _, target in matched),
        tuple(path.stem for path, _ in matched),
    )
