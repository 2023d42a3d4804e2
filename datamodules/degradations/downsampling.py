"""Downsampling as the benchmarks of super-resolution were made: bicubic (BI), or blurred and sampled (BD)."""

import math
from dataclasses import dataclass

import cv2
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


@dataclass(frozen=True)
class BlurDownsampling(Degradation):
    """Gaussian blur, of which every `scale`-th pixel is kept, the first one too: "BD" of video super-resolution.

    The kernel ends at 4 σ; borders are mirrored without repeating the edge. So DUF, BasicSR, VRT and RVRT make Vid4,
    UDM10 and Vimeo-90K.

    Args:
        scale: whole factor by which both sides shrink, at least 1.
        sigma: of the blur in pixels of the clean image, > 0.
        eight_bit: round the result to 8-bit levels, as the benchmarks' files are.

    Examples:
        >>> import numpy as np
        >>> from datamodules.degradations import BlurDownsampling
        >>> image = np.linspace(0, 1, 32, dtype=np.float32)[None, :, None].repeat(8, axis=0)
        >>> BlurDownsampling(4).apply(image, np.random.default_rng(0))[0, 2:5, 0].round(3)
        array([0.258, 0.387, 0.516], dtype=float32)
    """

    scale: int = 4
    sigma: float = 1.6
    eight_bit: bool = False

    def __post_init__(self) -> None:
        check_range("scale", self.scale, 1, 100)
        check_range("sigma", self.sigma, 1e-3, 1e3)

    @property
    def _radius(self) -> int:
        return int(4 * self.sigma + 0.5)

    @property
    def reach(self) -> int:  # type: ignore[override]
        """The radius of the kernel in pixels of the result."""
        return math.ceil(self._radius / self.scale)

    def apply(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Blur and sample; nothing is random.

        Raises:
            ValueError: if a side of the image is no multiple of `scale`.
        """
        height, width = image.shape[:2]
        if height % self.scale or width % self.scale:
            raise ValueError(
                f"sides of the image ({height}×{width}) must be multiples of scale ({self.scale}); crop it"
            )
        offsets = np.arange(-self._radius, self._radius + 1)
        kernel = np.exp(-0.5 * (offsets / self.sigma) ** 2)
        kernel = (kernel / kernel.sum()).astype(np.float32)
        blurred = cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
        small = np.clip(blurred.reshape(image.shape)[:: self.scale, :: self.scale], 0, 1)
        return to_8_bit(small).astype(np.float32) / np.float32(255) if self.eight_bit else np.ascontiguousarray(small)
