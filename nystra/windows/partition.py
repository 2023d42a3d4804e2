"""Feature maps and films cut into windows of tokens and put together again, also rolled or extended before."""

from __future__ import annotations

import dataclasses

import torch.nn.functional as F
from torch import Tensor

from glmha.shared.graphs import is_recorded


@dataclasses.dataclass(frozen=True)
class Cut:
    """A cut of feature maps (B, H, W, ...) into windows (B·R·S, N, ...), image by image, row by row.

    Maps may have more axes, such as the features (B, T, H, W, ...) of films: all arguments then have as many sides.

    Args:
        size: sides of the maps, H and W.
        window: sides of a window, h and w; must divide the extended maps.
        roll: tokens by which the maps are rolled (up, left) before they are cut; empty: they are not.
        margins: tokens by which reflection extends the maps before and after, axis by axis: top, bottom, left, right;
            less than the map has. Empty: it does not.

    Raises:
        ValueError: if `window` does not divide the extended maps, reflection cannot extend them so far, or they are to
            be rolled as well as extended.

    Examples:
        >>> import torch
        >>> from nystra.windows import Cut
        >>> cut = Cut((6, 4), window=(3, 2), roll=(1, 1))
        >>> features = torch.rand(5, 6, 4, 8)
        >>> windows = cut.windows(features)
        >>> cut.grid, windows.shape, torch.equal(cut.join(windows), features)
        ((2, 2), torch.Size([20, 6, 8]), True)
    """

    size: tuple[int, ...]
    window: tuple[int, ...]
    roll: tuple[int, ...] = ()
    margins: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Fill in what is left out, and refuse what is no cut."""
        axes = len(self.size)
        object.__setattr__(self, "roll", self.roll or (0,) * axes)
        object.__setattr__(self, "margins", self.margins or (0, 0) * axes)
        if not len(self.window) == len(self.roll) == len(self.margins) / 2 == axes:
            raise ValueError(f"window ({self.window}), roll and margins must have the {axes} axes of the maps")
        if any(self.roll) and any(self.margins):
            raise ValueError(f"roll ({self.roll}) must be {(0,) * axes} for maps that are extended, by {self.margins}")
        pairs = zip(self.margins[::2], self.margins[1::2], strict=True)
        for side, extended, window, margins in zip(self.size, self.extended, self.window, pairs, strict=True):
            if max(margins) >= max(side, 1):
                raise ValueError(f"margins ({self.margins}) must be less than the maps' sides ({self.size})")
            if extended % window:
                raise ValueError(f"window ({self.window}) must divide the extended maps ({self.extended})")

    @property
    def extended(self) -> tuple[int, ...]:
        """Sides that are cut."""
        before, after = self.margins[::2], self.margins[1::2]
        return tuple(map(sum, zip(self.size, before, after, strict=True)))

    @property
    def grid(self) -> tuple[int, ...]:
        """Windows of a map along each axis, R and S."""
        return tuple(side // window for side, window in zip(self.extended, self.window, strict=True))

    def windows(self, features: Tensor) -> Tensor:
        """Cut features (B, H, W, ...) into windows (B·R·S, N, ...)."""
        axes = len(self.size)
        if any(self.margins):
            channels_first = features.flatten(1 + axes).movedim(1 + axes, 1)
            # The last axis comes first there.
            margins = [side for axis in reversed(range(axes)) for side in self.margins[2 * axis : 2 * axis + 2]]
            padded = F.pad(channels_first, margins, mode="reflect").movedim(1, 1 + axes)
            features = padded.unflatten(1 + axes, features.shape[1 + axes :])
        if any(self.roll):
            features = features.roll([-side for side in self.roll], list(range(1, axes + 1)))
        for axis in reversed(range(axes)):
            features = features.unflatten(1 + axis, (self.grid[axis], self.window[axis]))
        grid_first = [1 + 2 * axis + part for part in (0, 1) for axis in range(axes)]
        cut = features.permute(0, *grid_first, *range(1 + 2 * axes, features.dim()))
        return cut.flatten(0, axes).flatten(1, axes)

    def join(self, windows: Tensor) -> Tensor:
        """Put windows (B·R·S, N, ...) together again: (B, H, W, ...)."""
        axes = len(self.size)
        cut = windows.unflatten(1, self.window).unflatten(0, (-1, *self.grid))
        pairs = [1 + axis + axes * part for axis in range(axes) for part in (0, 1)]
        features = cut.permute(0, *pairs, *range(1 + 2 * axes, cut.dim()))
        for axis in range(axes):
            features = features.flatten(1 + axis, 2 + axis)
        if any(self.roll):
            features = features.roll(self.roll, list(range(1, axes + 1)))
        for axis, (before, side) in enumerate(zip(self.margins[::2], self.size, strict=True)):
            # In a graph for all sizes margins of 0 stand for others.
            if side != features.shape[1 + axis] or (is_recorded() and any(self.margins)):
                features = features.narrow(1 + axis, before, side)
        return features
