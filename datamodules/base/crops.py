"""Where the training crops of a data set lie in its images, and which folders hold them."""

import zlib
from dataclasses import dataclass

import numpy as np

Region = tuple[slice, slice]
"""Rows and columns of a crop."""


@dataclass(frozen=True)
class Cut:
    """Places of crops in an image.

    Attributes:
        size: side in pixels of the target; of a smaller image all is taken. None: whole images.
        step: pixels between neighbours; the last of a row or column ends at the image's edge.
        random: crops of an image at random places instead.
        seed: of the random places.
    """

    size: int | None
    step: int | None = None
    random: int | None = None
    seed: int = 0

    def regions(self, height: int, width: int, name: str, scale: int = 1) -> list[Region]:
        """List the rows and columns of every crop.

        Args:
            height: of the image that is cut: the input's, at a scale above 1.
            width: of that image.
            name: of that image; random places depend on it and the seed alone.
            scale: how many pixels of the target a pixel of that image is.
        """
        if self.size is None:
            return [(slice(0, height), slice(0, width))]
        sides = [min(side, self.size // scale) for side in (height, width)]
        room = [whole - side for whole, side in zip((height, width), sides, strict=True)]
        if self.random is not None:
            rng = np.random.default_rng((self.seed, zlib.crc32(name.encode(errors="surrogateescape"))))
            corners = [tuple(int(rng.integers(free + 1)) for free in room) for _ in range(self.random)]
        else:
            step = (self.step or self.size) // scale
            rows, columns = ([*range(0, free, step), free] for free in room)
            corners = [(row, column) for row in rows for column in columns]
        return [(slice(top, top + sides[0]), slice(left, left + sides[1])) for top, left in corners]


@dataclass(frozen=True)
class TrainingFolders:
    """Folders that the crops of a training set are written to, in the layout that its data module reads.

    Attributes:
        part: name of the part that is cut.
        folder: the training set's own, relative to the output.
        inputs: folder in it for crops of inputs.
        targets: folder in it for crops of targets.
    """

    part: str
    folder: str
    inputs: str
    targets: str
