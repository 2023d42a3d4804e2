"""RealBlur: photographs of one scene, blurred by a shaken hand and sharp, taken through one lens by two cameras."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from datamodules.base.benchmark import BenchmarkDataModule, join
from datamodules.base.parts import Part, PublishedDataSet
from datamodules.base.published import shortfall
from datamodules.errors import DataError, refuse
from datamodules.pairs.matching import Pairs, pair_folders

Subset = Literal["RealBlur_J", "RealBlur_R"]


class RealBlurDataModule(BenchmarkDataModule, PublishedDataSet):
    """RealBlur-J and -R (Rim et al., ECCV 2020), to be downloaded by the user: camera JPEGs, and developed raw images.

    The terms are those of its page. Each subset has 3758 training and 980 test pairs. Either layout::

        test/RealBlur_R/{input,target}                  as the repository of Restormer arranges the test sets
        RealBlur_R/{train,test}/{input,target}
        RealBlur_R_{train,test}_list.txt                as released: each line has the files of a pair, which lie in
                                                        sceneXXX/gt and sceneXXX/blur of the folder beside

    In the last a pair is called `scene050-blur_1`.

    Args:
        root: the folder `RealBlur`, which holds one of these.
        train_sets: subsets to train on.
        val_sets: subsets whose test pairs validate during training.
        test_sets: subsets to test on.
        **kwargs: of `PairedImageDataModule`.

    Raises:
        ValueError: if a subset is unknown.

    Examples:
        >>> import numpy as np
        >>> from datamodules.files import write_image
        >>> from datamodules import RealBlurDataModule
        >>> for place in ("input", "target"):
        ...     _ = write_image(f"test/RealBlur_J/{place}/1.png", np.full((32, 48, 3), 200, np.uint8))
        >>> data = RealBlurDataModule(".", test_sets=["RealBlur_J"], num_workers=0)
        >>> data.setup("test")
        >>> next(iter(data.test_dataloader()[0]))["input"].shape
        torch.Size([1, 3, 32, 48])
    """

    train_count: ClassVar[int] = 3758
    """Of each subset."""
    counts: ClassVar[dict[str, int]] = {"RealBlur_J": 980, "RealBlur_R": 980}

    def __init__(
        self,
        root: Path,
        *,
        train_sets: Sequence[Subset] = ("RealBlur_J",),
        val_sets: Sequence[Subset] = (),
        test_sets: Sequence[Subset] = ("RealBlur_J", "RealBlur_R"),
        **kwargs: Any,
    ) -> None:
        super().__init__(root, test_sets=test_sets, val_sets=val_sets, **kwargs)
        for argument, names in (("train_sets", train_sets), ("val_sets", val_sets), ("test_sets", test_sets)):
            unknown = [name for name in names if name not in get_args(Subset)]
            if unknown:
                raise ValueError(f"{argument} ({', '.join(unknown)}) must be among {', '.join(get_args(Subset))}")
        self.train_sets = list(train_sets)

    @classmethod
    def parts(cls, root: Path, scale: int) -> Iterator[Part]:
        """List the training and test pairs of both subsets."""
        for name in get_args(Subset):
            data = cls(root, train_sets=[name], test_sets=[name])
            train = data.train_pairs if data.place_of(name, "train") else None
            test = partial(data.test_set, name) if data.place_of(name, "test") else None
            yield Part(f"{name}/train", cls.train_count, train)
            yield Part(f"{name}/test", cls.counts[name], test)

    def train_pairs(self) -> Pairs:
        """Find the training pairs.

        Raises:
            DataError: if a subset is absent.
        """
        parts: dict[str, Pairs] = {}
        for name in self.train_sets:
            pairs = self._split(name, "train")
            if pairs is None:
                raise DataError(
                    f"root ({self.root}) must hold {name}/train with input and target, or {name}_train_list.txt, got "
                    f"{self._entries()}; download the data set, or check the path"
                )
            if message := shortfall(f"{name}/train", pairs, self.train_count):
                self._say(message)
            parts[name] = pairs
        if not parts:
            raise DataError("train_sets ([]) must name a subset to train on, RealBlur_J or RealBlur_R")
        return join(parts, "train_sets")

    def find_set(self, name: str) -> Pairs | None:
        """Find the test pairs of a subset; None if they are not there."""
        return self._split(name, "test")

    def place_of(self, name: str, split: str) -> Path | None:
        """The folder, or the list, of a subset's pairs that train or test; None if there is neither."""
        places = (self.root / split / name, self.root / name / split, self.root / f"{name}_{split}_list.txt")
        return next((place for place in places if place.exists()), None)

    def _split(self, name: str, split: str) -> Pairs | None:
        place = self.place_of(name, split)
        if place is None:
            return None
        if place.is_file():
            return read_pair_list(place)
        return pair_folders(
            place / "input",
            place / "target",
            input_argument=f"root's {place.relative_to(self.root)}/input",
            target_argument=f"root's {place.relative_to(self.root)}/target",
        )


def read_pair_list(listing: Path) -> Pairs:
    """Read a list of pairs as RealBlur is released with.

    Args:
        listing: text file; each line has two paths, relative to its folder, apart by a space: a file in a folder `gt`
            and one in a folder `blur`. Empty lines are passed over.

    Returns:
        The pairs in the list's order.

    Raises:
        DataError: if a line is no such pair, a file is missing, or there is none.
    """
    blurred, sharp = [], []
    # Lists that were edited on Windows may begin with a byte order mark.
    for number, line in enumerate(listing.read_text("utf-8-sig").splitlines(), start=1):
        paths = [listing.parent / field for field in line.split()]
        if not paths:
            continue
        by_kind = {path.parent.name: path for path in paths}
        if len(paths) != 2 or by_kind.keys() != {"gt", "blur"}:
            raise DataError(
                f"line {number} of {listing} must be two paths, of a file in gt and one in blur, got {line.strip()!r}; "
                "download the list again"
            )
        blurred.append(by_kind["blur"])
        sharp.append(by_kind["gt"])
    missing = [path for path in (*blurred, *sharp) if not path.is_file()]
    if missing or not blurred:
        refuse(
            f"list {listing} must name files that exist, got {len(blurred)} pairs, {len(missing)} files missing"
            + (f", the first {missing[0]}; unpack the release beside the list" if missing else "; download it again"),
            [f"image {path} of {listing} must be there, got nothing; unpack the release again" for path in missing],
        )
    found = [pair for pair in zip(blurred, sharp, strict=True) if not set(pair) & set(missing)]
    names = tuple(f"{blur.parent.parent.name}-{blur.stem}" for blur, _ in found)
    return Pairs(tuple(blur for blur, _ in found), tuple(gt for _, gt in found), names)
