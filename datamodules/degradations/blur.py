"""Blur of a camera that moves while the shutter is open."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.degradations.base import Degradation, Range, check_range


@dataclass(frozen=True)
class MotionBlur(Degradation):
    """Blur of a camera that moves straight and evenly during the exposure: mean along a line, to a fraction of a pixel.

    Borders are mirrored.

    Args:
        length: of the path in pixels, at least 0.
        angle: of the path from the vertical, in degrees.

    Examples:
        >>> import numpy as np
        >>> from datamodules.degradations import MotionBlur
        >>> image = np.zeros((1, 7, 1), np.float32)
        >>> image[0, 3] = 1
        >>> blurred = MotionBlur(length=(3, 3), angle=(90, 90)).apply(image, np.random.default_rng(0))
        >>> blurred[0, :, 0].round(2)
        array([0.  , 0.04, 0.29, 0.33, 0.29, 0.04, 0.  ], dtype=float32)
    """

    length: Range = (5.0, 20.0)
    angle: Range = (-90.0, 90.0)

    def __post_init__(self) -> None:
        check_range("length", self.length, 0, math.inf)
        check_range("angle", self.angle, -180, 180)

    @property
    def reach(self) -> int:  # type: ignore[override]
        """Half of the longest path, and a pixel that it may enter."""
        return math.ceil(self.length[1] / 2) + 1

    def apply(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Blur all channels along one path."""
        kernel = motion_kernel(rng.uniform(*self.length), rng.uniform(*self.angle))
        blurred = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT)
        return np.clip(blurred, 0, 1).reshape(image.shape)


def motion_kernel(length: float, angle: float) -> NDArray:
    """Spread a unit of light along a line centred on a pixel, shared bilinearly among the pixels that it passes.

    Args:
        length: of the line in pixels.
        angle: from the vertical in degrees; positive leans to the right at the top.

    Returns:
        Shape (K, K), K odd, float32, of sum 1; a length of 0 gives the identity.
    """
    radius = math.ceil(length / 2) + 1
    steps = 16 * radius + 1
    offsets = length * ((np.arange(steps) + 0.5) / steps - 0.5)
    rows = radius - offsets * math.cos(math.radians(angle))
    columns = radius + offsets * math.sin(math.radians(angle))
    grid = np.arange(2 * radius + 1)
    near_rows = np.clip(1 - np.abs(grid[:, None] - rows), 0, None)
    near_columns = np.clip(1 - np.abs(grid[:, None] - columns), 0, None)
    return (near_rows @ near_columns.T / steps).astype(np.float32)
