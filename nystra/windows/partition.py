"""Feature maps cut into windows of tokens and put together again, also rolled or extended before."""

from __future__ import annotations

import dataclasses

import torch.nn.functional as F
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Cut:
    """A cut of feature maps (B, H, W, ...) into windows (B·R·S, N, ...), image by image, row by row.

    Args:
        size: H and W of the maps.
        window: h and w of a window; must divide the extended maps.
        roll: tokens by which the maps are rolled (up, left) before they are cut.
        margins: tokens by which reflection extends the maps: top, bottom, left, right; less than the map has.

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

    size: tuple[int, int]
    window: tuple[int, int]
    roll: tuple[int, int] = (0, 0)
    margins: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        """Refuse what is no cut."""
        if any(self.roll) and any(self.margins):
            raise ValueError(f"roll ({self.roll}) must be (0, 0) for maps that are extended, by {self.margins}")
        for side, extended, window, margins in zip(
            self.size, self.extended, self.window, (self.margins[:2], self.margins[2:]), strict=True
        ):
            if max(margins) >= max(side, 1):
                raise ValueError(f"margins ({self.margins}) must be less than the maps' sides ({self.size})")
            if extended % window:
                raise ValueError(f"window ({self.window}) must divide the extended maps ({self.extended})")

    @property
    def extended(self) -> tuple[int, int]:
        """Height and width that are cut."""
        top, bottom, left, right = self.margins
        return self.size[0] + top + bottom, self.size[1] + left + right

    @property
    def grid(self) -> tuple[int, int]:
        """Windows of a map, R and S."""
        height, width = self.extended
        return height // self.window[0], width // self.window[1]

    def windows(self, features: Tensor) -> Tensor:
        """Cut features (B, H, W, ...) into windows (B·R·S, N, ...)."""
        if any(self.margins):
            top, bottom, left, right = self.margins
            channels_first = features.flatten(3).permute(0, 3, 1, 2)
            padded = F.pad(channels_first, (left, right, top, bottom), mode="reflect").permute(0, 2, 3, 1)
            features = padded.unflatten(3, features.shape[3:])
        if any(self.roll):
            features = features.roll((-self.roll[0], -self.roll[1]), (1, 2))
        (rows, columns), (height, width) = self.grid, self.window
        cut = features.unflatten(2, (columns, width)).unflatten(1, (rows, height))
        return cut.transpose(2, 3).flatten(0, 2).flatten(1, 2)

    def join(self, windows: Tensor) -> Tensor:
        """Put windows (B·R·S, N, ...) together again: (B, H, W, ...)."""
        cut = windows.unflatten(1, self.window).unflatten(0, (-1, *self.grid))
        features = cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        if any(self.roll):
            features = features.roll(self.roll, (1, 2))
        top, _, left, _ = self.margins
        return features[:, top : top + self.size[0], left : left + self.size[1]]
