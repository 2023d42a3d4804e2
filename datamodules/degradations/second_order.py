"""Degradations of photographs from the web: blur, resampling, noise and JPEG, twice in a row."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import j1

from datamodules.degradations.base import Degradation, Range, check_range
from datamodules.degradations.jpeg import JPEGCompression
from datamodules.degradations.noise import ShotNoise

SIDES = range(7, 22, 2)
"""Sides of blur kernels in pixels."""
ANISOTROPIC, GENERALISED, PLATEAU = 0.31, 0.15, 0.15
"""Shares of blur kernels that are stretched, of generalised Gaussians, and of plateaus."""
RESAMPLINGS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
LEVELS = 256


@dataclass(frozen=True)
class DegradationRound:
    """One round of blur, resampling, noise and JPEG, each with its ranges.

    Args:
        blur: probability of a blur.
        ringing: share of blurs by a low-pass filter without soft edge, which rings.
        sigma: of the kernels, in pixels, along either axis.
        resize: factor by which the image is resampled.
        larger: probability of a factor above 1.
        smaller: probability of a factor below 1; otherwise the size stays.
        gaussian: probability of Gaussian noise; otherwise it is shot noise.
        grey: probability of the same noise in all channels.
        noise: σ of Gaussian noise in grey levels of 255.
        shot: strength of shot noise: 1 is that of 256 photons in a white pixel, 2 doubles its σ.
        quality: of JPEG.

    Examples:
        >>> import numpy as np
        >>> from datamodules.degradations import DegradationRound
        >>> DegradationRound(larger=0, smaller=0).factor(np.random.default_rng(0))
        1.0
    """

    blur: float = 1.0
    ringing: float = 0.1
    sigma: Range = (0.2, 3.0)
    resize: Range = (0.15, 1.5)
    larger: float = 0.2
    smaller: float = 0.7
    gaussian: float = 0.5
    grey: float = 0.4
    noise: Range = (1.0, 30.0)
    shot: Range = (0.05, 3.0)
    quality: Range = (30.0, 95.0)

    def __post_init__(self) -> None:
        for name in ("blur", "ringing", "larger", "smaller", "gaussian", "grey"):
            check_range(name, getattr(self, name), 0, 1)
        check_range("smaller", self.smaller, 0, 1 - self.larger)
        check_range("sigma", self.sigma, 0.05, 100)
        check_range("resize", self.resize, 0.01, 10)
        check_range("resize", self.resize[0], 0.01, 1)
        check_range("resize", self.resize[1], 1, 10)
        check_range("noise", self.noise, 0, math.inf)
        check_range("shot", self.shot, 1e-3, 100)
        check_range("quality", self.quality, 1, 100)

    def factor(self, rng: np.random.Generator) -> float:
        """Draw the factor of the resampling."""
        drawn = rng.uniform()
        if drawn < self.larger:
            return rng.uniform(1, self.resize[1])
        return rng.uniform(self.resize[0], 1) if drawn < self.larger + self.smaller else 1.0

    def blurred(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Blur all channels by one kernel, or none."""
        if rng.uniform() >= self.blur:
            return image
        side = int(rng.choice(SIDES))
        kernel = ringing_kernel(side, rng) if rng.uniform() < self.ringing else blur_kernel(side, self.sigma, rng)
        return _filtered(image, kernel)

    def noisy(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Add noise of one kind and strength to the whole image."""
        grey = rng.uniform() < self.grey
        if rng.uniform() < self.gaussian:
            shape = (*image.shape[:2], 1 if grey else image.shape[2])
            sigma = np.float32(rng.uniform(*self.noise) / 255)
            return np.clip(image + sigma * rng.standard_normal(shape, np.float32), 0, 1)
        photons = LEVELS / rng.uniform(*self.shot) ** 2
        counted = image.mean(2, keepdims=True) if grey else image
        noise = ShotNoise((photons, photons)).apply(counted, rng) - counted
        return np.clip(image + noise, 0, 1)

    def compressed(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Compress the whole image at one quality."""
        return JPEGCompression(self.quality).apply(image, rng)


FIRST = DegradationRound()
SECOND = DegradationRound(
    blur=0.8, sigma=(0.2, 1.5), resize=(0.3, 1.2), larger=0.3, smaller=0.4, noise=(1.0, 25.0), shot=(0.05, 2.5)
)


@dataclass(frozen=True)
class SecondOrderDegradation(Degradation):
    """What happens to a photograph between the camera and the web: two rounds of blur, resampling, noise and JPEG.

    Wang et al., Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data (ICCV Workshops 2021),
    section 3, with the ranges and probabilities of its training options. In the second round the compression and a
    low-pass filter without soft edge, which rings, come last, in either order.

    Of the published chain two things differ: every draw comes from one generator, so that an image's degradation can be
    repeated, and shot noise is counted from photons, not from the number of an image's levels.

    Patches are degraded by themselves, with mirrored borders: by how much a factor of 0.15 spreads a pixel, no border
    would be wide enough.

    Args:
        scale: how much smaller the result is than the clean image; 1 restores, 2 to 4 is super-resolution.
        first: ranges of the first round.
        second: ranges of the second round.
        last_ringing: probability of the filter at the end.

    Raises:
        ValueError: if a range or a probability is out of its bounds.

    Examples:
        >>> import numpy as np
        >>> from datamodules.degradations import SecondOrderDegradation
        >>> clean = np.random.default_rng(0).random((64, 96, 3), np.float32)
        >>> degraded = SecondOrderDegradation(scale=2).apply(clean, np.random.default_rng(1))
        >>> degraded.shape, degraded.dtype, bool(0 <= degraded.min() <= degraded.max() <= 1)
        ((32, 48, 3), dtype('float32'), True)
    """

    scale: int = 1
    first: DegradationRound = FIRST
    second: DegradationRound = SECOND
    last_ringing: float = 0.8

    def __post_init__(self) -> None:
        check_range("scale", self.scale, 1, 100)
        check_range("last_ringing", self.last_ringing, 0, 1)

    def apply(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Degrade an image at one draw of everything.

        Raises:
            ValueError: if a side of the image is no multiple of `scale`.
        """
        height, width = image.shape[:2]
        if height % self.scale or width % self.scale:
            raise ValueError(
                f"sides of the image ({height}×{width}) must be multiples of scale ({self.scale}); crop it"
            )
        size = (height // self.scale, width // self.scale)
        result = self.first.blurred(image, rng)
        result = _resampled(result, _scaled((height, width), self.first.factor(rng)), rng)
        result = self.first.compressed(self.first.noisy(result, rng), rng)
        result = self.second.blurred(result, rng)
        result = _resampled(result, _scaled(size, self.second.factor(rng)), rng)
        result = self.second.noisy(result, rng)
        if rng.uniform() < 0.5:
            result = self._last(_resampled(result, size, rng), rng)
            return self.second.compressed(result, rng)
        result = self.second.compressed(result, rng)
        return self._last(_resampled(result, size, rng), rng)

    def _last(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        if rng.uniform() >= self.last_ringing:
            return image
        return _filtered(image, ringing_kernel(int(rng.choice(SIDES)), rng))


def blur_kernel(side: int, sigma: Range, rng: np.random.Generator) -> NDArray:
    """Draw a kernel: a Gaussian, a generalised one exp(−r^2β / 2), or a plateau 1 / (1 + r^2β), round or stretched.

    Args:
        side: in pixels, odd.
        sigma: range of the standard deviations along both axes, in pixels.
        rng: source of everything.

    Returns:
        Shape (side, side), float32, of sum 1.
    """
    wide = rng.uniform(*sigma)
    stretched = rng.uniform() < ANISOTROPIC
    high, angle = (rng.uniform(*sigma), rng.uniform(-math.pi, math.pi)) if stretched else (wide, 0.0)
    rows, columns = np.indices((side, side)) - side // 2
    along = columns * math.cos(angle) + rows * math.sin(angle)
    across = rows * math.cos(angle) - columns * math.sin(angle)
    squared = (along / wide) ** 2 + (across / high) ** 2
    kind = rng.uniform()
    if kind < GENERALISED:
        kernel = np.exp(-0.5 * squared ** _exponent(rng, 0.5, 4))
    elif kind < GENERALISED + PLATEAU:
        kernel = 1 / (1 + squared ** _exponent(rng, 1, 2))
    else:
        kernel = np.exp(-0.5 * squared)
    return (kernel / kernel.sum()).astype(np.float32)


def ringing_kernel(side: int, rng: np.random.Generator) -> NDArray:
    """Draw a low-pass filter without soft edge, ω J₁(ω r) / (2π r), whose results ring.

    Args:
        side: in pixels, odd.
        rng: source of the cutoff ω.

    Returns:
        Shape (side, side), float32, of sum 1.
    """
    cutoff = rng.uniform(math.pi / 3 if side < 13 else math.pi / 5, math.pi)
    rows, columns = np.indices((side, side)) - side // 2
    radius = np.hypot(rows, columns)
    # The limit at 0, where the quotient is none.
    centre = radius == 0
    kernel = np.where(
        centre, cutoff**2 / (4 * math.pi), cutoff * j1(cutoff * radius) / (2 * math.pi * np.where(centre, 1, radius))
    )
    return (kernel / kernel.sum()).astype(np.float32)


def _exponent(rng: np.random.Generator, low: float, high: float) -> float:
    """β on either side of 1 with the same probability."""
    return rng.uniform(low, 1) if rng.uniform() < 0.5 and low < 1 else rng.uniform(1, high)


def _filtered(image: NDArray, kernel: NDArray) -> NDArray:
    filtered = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT)
    return np.clip(filtered, 0, 1).reshape(image.shape)


def _scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _resampled(image: NDArray, size: tuple[int, int], rng: np.random.Generator) -> NDArray:
    """Resample to (height, width), by area, bilinearly or bicubically."""
    kind = RESAMPLINGS[int(rng.integers(len(RESAMPLINGS)))]
    if image.shape[:2] == size:
        return image
    resampled = cv2.resize(image, (size[1], size[0]), interpolation=kind)
    return np.clip(resampled, 0, 1).reshape(*size, image.shape[2])
