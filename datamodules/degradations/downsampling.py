"""Bicubic downsampling as the super-resolution benchmarks were made."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.degradations.base import Degradation, check_range, to_8_bit
from datamodules.degradations.imresize import imresize


@dataclass(frozen=True)
class BicubicDownsampling(Degradation):
    """Shrinking by MATLAB's antialiased bicubic `imresize`, the benchmark input of super-resolution; clipped.

    Args:
        scale: whole factor by which both sides shrink, at least 1.
        eight_bit: shrink 8-bit levels, which are rounded after each axis, as the benchmarks' files are made.

    Examples:
        >>> import numpy as np
        >>> from datamodules.degradations import BicubicDownsampling
        >>> image = np.linspace(0, 1, 8, dtype=np.float32)[None, :, None].repeat(4, axis=0)
        >>> small = BicubicDownsampling(2).apply(image, np.random.default_rng(0))
        >>> small.shape, small[0, :, 0].round(3)
        ((2, 4, 1), array([0.064, 0.355, 0.645, 0.936], dtype=float32))
    """

    scale: int = 2
    eight_bit: bool = False

    def __post_init__(self) -> None:
        check_range("scale", self.scale, 1, 100)

    @property
    def reach(self) -> int:  # type: ignore[override]
        """The kernel is four pixels of the result wide."""
        return 2 if self.scale > 1 else 0

    def apply(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Shrink; nothing is random.

        Raises:
            ValueError: if a side of the image is no multiple of `scale`.
        """
        height, width = image.shape[:2]
        if height % self.scale or width % self.scale:
            raise ValueError(
                f"sides of the image ({height}×{width}) must be multiples of scale ({self.scale}); crop it"
            )
        if self.eight_bit:
            return imresize(to_8_bit(image), 1 / self.scale).astype(np.float32) / np.float32(255)
        return np.clip(imresize(image, 1 / self.scale), 0, 1)
