"""Where the rows and the columns that windows hold lie in feature maps: after a roll, or a reflection at the edges."""

import functools
from typing import NamedTuple

from nystra.windows.geometry import WindowGeometry
from nystra.windows.partition import Cut


class Layout(NamedTuple):
    """What programs are told of geometry and cut: rows and columns, and how many frames lie below each other.

    Attributes:
        window: h and w of a window.
        roll: see `nystra.windows.Cut`.
        margins: see `nystra.windows.Cut`; none where there are frames.
        grid: windows of an image along each axis.
        frames: that a window reaches over; 1: it is of an image.
    """

    window: list[int]
    roll: list[int]
    margins: list[int]
    grid: list[int]
    frames: int

    @classmethod
    def of(cls, geometry: WindowGeometry, cut: Cut) -> "Layout":
        """Describe maps that `nystra.kernels.Kernel.attend_natively` is given."""
        frames = cut.window[0] if len(cut.window) == 3 else 1
        return cls(list(cut.window[-2:]), list(cut.roll[-2:]), list(cut.margins[-4:]), list(geometry.grid[-2:]), frames)


@functools.lru_cache(maxsize=256)
def places(side: int, roll: int, before: int, after: int) -> tuple[int, ...]:
    """Row (column) of a map for each that is cut.

    Args:
        side: rows of the map.
        roll: rows by which the map is rolled up.
        before: rows by which reflection extends the map above.
        after: the same below.
    """
    reflected = (side - 1 - abs(side - 1 - abs(place)) for place in range(-before, side + after))
    return tuple((place + roll) % side for place in reflected)


@functools.lru_cache(maxsize=256)
def in_frames(rows: tuple[int, ...], window: int, frames: int) -> tuple[int, ...]:
    """Rows of maps of frames below each other, window by window: those of each of its frames, from those of one."""
    height = len(rows)
    return tuple(
        frame * height + row
        for first in range(0, height, window)
        for frame in range(frames)
        for row in rows[first : first + window]
    )
