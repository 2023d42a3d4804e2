"""Which crops are cut of which images, and what came of it."""

import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from datamodules.pairs.degraded import CleanImages
from datamodules.pairs.matching import Pairs

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Cut:
    """Where crops are.

    Attributes:
        size: side in pixels of the target; of a smaller image all is taken. None: whole images.
        step: pixels between neighbours; the last of a row or column ends at the image's edge.
        random: crops of an image at random places instead.
        seed: of these.
    """

    size: int | None
    step: int | None = None
    random: int | None = None
    seed: int = 0

    def windows(self, height: int, width: int, name: str, scale: int = 1) -> list[Window]:
        """Rows and columns of every crop.

        Args:
            height: of the image that is cut: the input's, at a scale above 1.
            width: of it.
            name: of the image; random places depend on it and the seed alone.
            scale: how many pixels of the target a pixel of that image is.
        """
        if self.size is None:
            return [(slice(0, height), slice(0, width))]
        sides = [min(side, self.size // scale) for side in (height, width)]
        room = [whole - side for whole, side in zip((height, width), sides, strict=True)]
        if self.random is not None:
            rng = np.random.default_rng((self.seed, zlib.crc32(name.encode())))
            corners = [tuple(int(rng.integers(free + 1)) for free in room) for _ in range(self.random)]
        else:
            step = (self.step or self.size) // scale
            rows, columns = ([*range(0, free, step), free] for free in room)
            corners = [(row, column) for row in rows for column in columns]
        return [(slice(top, top + sides[0]), slice(left, left + sides[1])) for top, left in corners]


@dataclass(frozen=True)
class Plan:
    """What is to be made.

    Attributes:
        dataset: what it is made of.
        pairs: the images.
        folder: what appears when all is made.
        inputs: folder in it for crops of inputs.
        targets: folder in it for crops of targets.
        cut: where crops are.
        scale: size of a target relative to its input.
        pack: make packs (`datamodules.packs`) instead of a file each; of whole images nothing else can be made.

    Raises:
        ValueError: if a side, step or number is not positive, or crops would not lie on the pixels of the inputs.
    """

    dataset: str
    pairs: Pairs
    folder: Path
    inputs: str
    targets: str
    cut: Cut
    scale: int = 1
    pack: bool = False

    def __post_init__(self) -> None:
        numbers = {"crop_size": self.cut.size, "step": self.cut.step, "crops_per_image": self.cut.random}
        for name, value in numbers.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} ({value}) must be at least 1")
            if value is not None and name != "crops_per_image" and value % self.scale:
                raise ValueError(
                    f"{name} ({value}) must be a multiple of the scale, {self.scale}; it counts pixels of the target"
                )
        if self.cut.size is None and not self.pack:
            raise ValueError(f"pack (False) must be true for {self.dataset}, whose images are trained on whole")

    @property
    def sources(self) -> dict[str, tuple[Path, ...]]:
        """The folders that are written and the images of each; inputs that are made as they are read have none."""
        inputs = {} if isinstance(self.pairs, CleanImages) else {self.inputs: self.pairs.inputs}
        return {**inputs, self.targets: self.pairs.targets}

    @property
    def settings(self) -> dict[str, object]:
        """What two runs must agree in for one to go on with what the other began."""
        return {"dataset": self.dataset, "scale": self.scale, "pack": self.pack, **asdict(self.cut)}

    @property
    def unfinished(self) -> Path:
        """The hidden folder beside the final one that holds what is made so far."""
        return self.folder.with_name(f".{self.folder.name}.unfinished")


@dataclass(frozen=True)
class Made:
    """What a run did.

    Attributes:
        images: images of the whole set.
        crops: crops of all of them.
        new: images that this run cut; 0 if all was there.
    """

    images: int
    crops: int
    new: int
