"""Blocks and lost detail of JPEG compression."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.degradations.base import Degradation, Range, check_range, to_8_bit
from datamodules.files.images import jpeg


@dataclass(frozen=True)
class JPEGCompression(Degradation):
    """JPEG's artefacts, by encoding and decoding the image in 8 bits; blocks begin at its upper left corner.

    Args:
        quality: of the encoder, 1 to 100; rounded to whole numbers.

    Examples:
        >>> import numpy as np
        >>> from datamodules.degradations import JPEGCompression
        >>> rng = np.random.default_rng(0)
        >>> image = rng.random((16, 16, 3), np.float32)
        >>> errors = [np.abs(JPEGCompression((q, q)).apply(image, rng) - image).mean() for q in (10, 90)]
        >>> bool(errors[0] > errors[1] > 0)
        True
    """

    quality: Range = (10.0, 40.0)

    def __post_init__(self) -> None:
        check_range("quality", self.quality, 1, 100)

    def apply(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Compress the whole image at one quality."""
        levels = jpeg(to_8_bit(image), round(rng.uniform(*self.quality)))
        return levels.astype(np.float32) / np.float32(255)
