"""The base of degradations, several of them in a row, and the smooth random fields that they share."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.degradations.imresize import cubic

Range = tuple[float, float]


class Degradation(ABC):
    """A physical cause that degraded a clean image before it was seen.

    Attributes:
        scale: how much larger than the degraded image the clean one is.
        reach: pixels at each border of a degraded image that depend on how the clean one goes on beyond.

    Examples:
        >>> import numpy as np
        >>> from datamodules.degradations import Degradation
        >>> class Fade(Degradation):
        ...     def apply(self, image, rng):
        ...         return image * np.float32(rng.uniform(0.5, 1))
        >>> Fade().apply(np.ones((1, 2, 1), np.float32), np.random.default_rng(0)).round(3)[0, :, 0]
        array([0.818, 0.818], dtype=float32)
    """

    scale: int = 1
    reach: int = 0

    @abstractmethod
    def apply(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Degrade one image.

        Args:
            image: clean, shape (H, W, C), float32 in [0, 1].
            rng: the only source of randomness: the same state gives the same result.

        Returns:
            Shape (H / scale, W / scale, C), float32 in [0, 1].
        """

    def apply_to_clip(self, frames: NDArray, rng: np.random.Generator) -> NDArray:
        """Degrade the frames of a clip, each by a draw of its own unless a degradation knows better.

        Args:
            frames: clean, shape (T, H, W, C), float32 in [0, 1].
            rng: the only source of randomness.

        Returns:
            Shape (T, H / scale, W / scale, C), float32.
        """
        return np.stack([self.apply(frame, rng) for frame in frames])


@dataclass(frozen=True)
class Chain(Degradation):
    """Several degradations, one after the other.

    Args:
        steps: at least one, in the order in which they happened.

    Examples:
        >>> import numpy as np
        >>> from datamodules.degradations import BicubicDownsampling, Chain, GaussianNoise
        >>> camera = Chain((BicubicDownsampling(2), GaussianNoise((10, 10))))
        >>> camera.scale, camera.reach
        (2, 2)
        >>> camera.apply(np.full((8, 12, 3), 0.5, np.float32), np.random.default_rng(0)).shape
        (4, 6, 3)
    """

    steps: tuple[Degradation, ...]

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("steps (()) must hold at least one degradation")

    @property
    def scale(self) -> int:  # type: ignore[override]
        """Product of the steps' scales."""
        return math.prod(step.scale for step in self.steps)

    @property
    def reach(self) -> int:  # type: ignore[override]
        """The reach of all steps together, in pixels of the last result."""
        reach = 0
        for step in self.steps:
            reach = math.ceil(reach / step.scale) + step.reach
        return reach

    def apply(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply every step to the result of the one before."""
        for step in self.steps:
            image = step.apply(image, rng)
        return image

    def apply_to_clip(self, frames: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply every step to the clip that the one before has left."""
        for step in self.steps:
            frames = step.apply_to_clip(frames, rng)
        return frames


def smooth_field(height: int, width: int, scale: float, rng: np.random.Generator) -> NDArray:
    """Draw a smooth random field: uniform values on a grid of the given pitch, interpolated bicubically.

    Args:
        height: in pixels.
        width: in pixels.
        scale: pitch of the grid in pixels, at least 1.
        rng: source of the values and of the grid's offset.

    Returns:
        Shape (height, width), float32 in [0, 1].
    """
    nodes = rng.uniform(size=(math.ceil(height / scale) + 4, math.ceil(width / scale) + 4))
    top, left = 1 + rng.uniform(size=2)
    down = cubic(top + np.arange(height)[:, None] / scale - np.arange(nodes.shape[0]))
    right = cubic(left + np.arange(width)[:, None] / scale - np.arange(nodes.shape[1]))
    return np.clip(down @ nodes @ right.T, 0, 1).astype(np.float32)


def to_8_bit(image: NDArray) -> NDArray:
    """Round an image of [0, 1] to 8 bits."""
    return np.rint(image * 255).clip(0, 255).astype(np.uint8)


def check_range(name: str, value: Range | float, low: float, high: float) -> None:
    """Refuse a number, or a range of numbers, that is not between two bounds."""
    is_range = isinstance(value, tuple | list)
    ends = value if isinstance(value, tuple | list) else (value, value)
    if len(ends) != 2 or not low <= ends[0] <= ends[1] <= high or not all(map(math.isfinite, ends)):
        wanted = "be a range (low, high) with low ≤ high, both" if is_range else "lie"
        raise ValueError(f"{name} ({value}) must {wanted} in [{low}, {high}]")
