"""The frames of a clip, which is a folder of images or a film, in their order."""

import functools
import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from datamodules.clips.films import Film, is_film
from datamodules.errors import DataError
from datamodules.files.images import convert_channels, list_images, read_image


class Clip(Protocol):
    """Frames in the order in which they are shown.

    Attributes:
        path: of the folder or film.
    """

    path: Path

    def __len__(self) -> int:
        """Return the number of frames."""
        ...

    def frames(self, start: int, stop: int) -> Iterator[NDArray]:
        """Read frames from `start` to before `stop`.

        Yields:
            Shape (H, W, C) with C = 1, 3 or 4; uint8, uint16, or float32 in [0, 1]; the same for all.

        Raises:
            DataError: if one is damaged, or differs from the first in size, channels or type.
        """
        ...


class FrameFolder:
    """A folder of images as a clip, in the order of their numbers.

    Args:
        path: the folder; its images may be in a pack.
        argument: name of the option that gives it, for messages.

    Raises:
        DataError: if there are no images, two have one number, or one is missing between others.
    """

    def __init__(self, path: Path, argument: str = "clip") -> None:
        self.path = path
        numbered = _numbered(list_images(path, argument), path)
        self.files = tuple(file for _, file in numbered)
        self.numbers = tuple(number for number, _ in numbered)

    def __len__(self) -> int:
        return len(self.files)

    def frames(self, start: int, stop: int) -> Iterator[NDArray]:
        """Read frames from `start` to before `stop`; see `Clip`."""
        first: NDArray | None = None
        for file in self.files[start:stop]:
            image = read_image(file)
            first = image if first is None else first
            if image.shape != first.shape or image.dtype != first.dtype:
                raise DataError(
                    f"frame {file} must be as {self.files[start].name} is ({describe(first)}), got "
                    f"{describe(image)}; replace the wrong file, or make two clips of them"
                )
            yield image


def is_clip(path: Path) -> bool:
    """Whether a path may be a clip: a film, or a folder."""
    return path.is_dir() or is_film(path)


def open_clip(path: str | Path, argument: str = "clip") -> Clip:
    """Open a folder of frames or a film.

    Args:
        path: of it.
        argument: name of the option that gives it, for messages.

    Returns:
        Its frames.

    Raises:
        DataError: if it is no clip, or damaged.

    Examples:
        >>> import numpy as np
        >>> from datamodules.clips import open_clip
        >>> from datamodules.files import write_image
        >>> for number in range(3):
        ...     _ = write_image(f"walk/{number}.png", np.full((4, 6, 3), number, np.uint8))
        >>> clip = open_clip("walk")
        >>> len(clip), [int(frame.max()) for frame in clip.frames(1, 3)]
        (3, [1, 2])
    """
    path = Path(path)
    if path.is_file() and is_film(path):
        status = path.stat()
        return _film(path, status.st_mtime_ns, status.st_size, os.getpid())
    if path.is_file():
        raise DataError(f"{argument} ({path}) must be a folder of frames or a film, got another file; check the path")
    return FrameFolder(path, argument)


def read_frames(clip: Clip, start: int, stop: int, channels: int = 3) -> NDArray:
    """Read frames into one array.

    Args:
        clip: an open one.
        start: first frame.
        stop: one past the last.
        channels: 1 or 3, see `convert_channels`.

    Returns:
        Shape (stop − start, H, W, channels).

    Raises:
        DataError: if one is damaged or differs from the others.
    """
    return np.stack([convert_channels(frame, channels) for frame in clip.frames(start, stop)])


@functools.lru_cache(maxsize=64)
def _film(path: Path, modified: int, size: int, process: int) -> Film:
    # Finding its frames reads the whole file.
    return Film(path)


def _numbered(files: list[Path], folder: Path) -> list[tuple[int, Path]]:
    """Frames by their numbers, in order; without numbers in their names those tell the order."""
    groups = [list(map(int, re.findall(r"\d+", file.stem))) for file in files]
    if not any(groups):
        return list(enumerate(files))
    # The last number that is not the same in all names, such as 7 of `0007_x4`.
    shortest = min(groups, key=len)
    places = [place for place in range(1, len(shortest) + 1) if len({group[-place] for group in groups}) > 1]
    if not places and len(files) > 1:
        odd = files[groups.index(shortest)]
        raise DataError(f"clip {folder} must have numbered frames, got {odd.name} among them; remove or rename it")
    place = places[0] if places else 1
    ordered = sorted((group[-place], file) for group, file in zip(groups, files, strict=True))
    steps = [after - before for (before, _), (after, _) in pairwise(ordered)]
    usual = max(set(steps), key=steps.count, default=1)
    for step, ((_, before), (_, after)) in zip(steps, pairwise(ordered), strict=True):
        if step == 0:
            raise DataError(
                f"clip {folder} must have one frame of a number, got {before.name} and {after.name}; remove one of them"
            )
        if step != usual:
            raise DataError(
                f"clip {folder} must have every frame, got none between {before.name} and {after.name}; add the "
                "missing frames, or make two clips"
            )
    return ordered


def describe(image: NDArray) -> str:
    """Sides, channels and type of a frame (H, W, C), in words."""
    height, width, channels = image.shape
    return f"{height}×{width}×{channels}, {image.dtype}"
