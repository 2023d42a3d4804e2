"""Physically described degradations: NumPy functions of an image and a random generator.

Each draws its parameters uniformly from ranges (low, high); equal ends fix a parameter.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from datamodules.images import jpeg
from datamodules.imresize import cubic, imresize

Range = tuple[float, float]


class Degradation(ABC):
    """What happened to a clean image before it was seen.

    Attributes:
        scale: how much larger than the degraded image the clean one is.
        reach: pixels at each border of a degraded image that depend on how the clean one goes on beyond.
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


@dataclass(frozen=True)
class Rain(Degradation):
    """Rain streaks at several distances, and the veil of the rain too far to be resolved.

    I = T ⊙ (J + Σ_z S_z) + (1 − T) A, T = exp(−β d): the heavy-rain model of Li, Cheong and Tan, "Heavy Rain Image
    Restoration", CVPR 2019 (J clean scene, S_z streaks, A airlight, d depth). A drop adds nearly the same light
    whatever lies behind it (Garg and Nayar, "Vision and Rain", IJCV 2007), so streaks are added, and white. A streak
    is the path of a drop during the exposure: a sparse field of drops blurred along their motion. A layer at
    distance z (1 is the nearest) sees its streaks z times shorter and narrower and, as a camera's view widens,
    z² times more of them; those narrower than a pixel fade because a pixel averages over its area. Depth is a smooth
    random field in [0, 1], of the same statistics in a crop as in the whole image.

    Args:
        angle: of the streaks from the vertical, in degrees, −90 to 90; positive leans to the right at the top.
        length: of the nearest streaks in pixels, at least 1.
        width: of the nearest streaks in pixels (full width at half maximum), > 0.
        density: nearest streaks in 100×100 pixels, at least 0.
        brightness: light added along the middle of the brightest streaks, 0 to 1; single drops have 50 to 100 % of it.
        layers: number of distances z = 1, 2, …, at least 1.
        haze: β, extinction over the depth of the scene, at least 0.
        airlight: A, the colour of the veil (grey), 0 to 1.
        depth_scale: pixels over which depth changes, at least 1.
    """

    angle: Range = (-30.0, 30.0)
    length: Range = (14.0, 30.0)
    width: Range = (1.0, 1.8)
    density: Range = (4.0, 9.0)
    brightness: Range = (0.3, 0.55)
    layers: int = 3
    haze: Range = (0.0, 0.1)
    airlight: Range = (0.7, 0.9)
    depth_scale: float = 96.0

    def __post_init__(self) -> None:
        _check("angle", self.angle, -90, 90)
        _check("length", self.length, 1, math.inf)
        _check("width", self.width, 0.1, math.inf)
        _check("density", self.density, 0, 10_000)
        _check("brightness", self.brightness, 0, 1)
        _check("layers", self.layers, 1, 100)
        _check("haze", self.haze, 0, math.inf)
        _check("airlight", self.airlight, 0, 1)
        _check("depth_scale", self.depth_scale, 1, math.inf)

    def apply(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Add the streaks of all layers, veil scene and streaks alike, and clip as a sensor does."""
        height, width = image.shape[:2]
        streaks = self.streaks(height, width, rng)
        transmission = np.exp(-rng.uniform(*self.haze) * smooth_field(height, width, self.depth_scale, rng))
        rainy = transmission[..., None] * (image + streaks[..., None])
        rainy += (1 - transmission[..., None]) * np.float32(rng.uniform(*self.airlight))
        return np.clip(rainy, 0, 1, out=rainy)

    def streaks(self, height: int, width: int, rng: np.random.Generator) -> NDArray:
        """Draw the light that all layers of streaks add.

        Args:
            height: of the image in pixels.
            width: of the image in pixels.
            rng: source of the parameters and of the drops' places.

        Returns:
            Shape (height, width), float32, at least 0.
        """
        angle, length, thickness = rng.uniform(*self.angle), rng.uniform(*self.length), rng.uniform(*self.width)
        density, brightness = rng.uniform(*self.density) / 1e4, rng.uniform(*self.brightness)
        light = np.zeros((height, width), np.float32)
        for distance in range(1, self.layers + 1):
            # Gusts: no two layers fall in quite the same direction.
            kernel = streak_kernel(length / distance, thickness / distance, angle + rng.uniform(-3, 3))
            margin = len(kernel) // 2
            shape = height + 2 * margin, width + 2 * margin
            drops = np.zeros(shape, np.float32)
            count = rng.poisson(density * distance**2 * drops.size)
            drops.flat[rng.integers(drops.size, size=count)] = rng.uniform(0.5, 1, size=count)
            light += cv2.filter2D(drops, -1, kernel)[margin : margin + height, margin : margin + width]
        return np.clip(brightness * light, 0, 1)


@dataclass(frozen=True)
class GaussianNoise(Degradation):
    """White Gaussian noise, I = J + n with n ~ N(0, σ²) per pixel and channel, as sensors' read noise.

    Args:
        sigma: σ in grey levels of 255, at least 0.
        clip: to [0, 1], as a sensor does; denoising benchmarks do not.
    """

    sigma: Range = (5.0, 50.0)
    clip: bool = True

    def __post_init__(self) -> None:
        _check("sigma", self.sigma, 0, math.inf)

    def apply(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Add noise of one strength to the whole image."""
        sigma = np.float32(rng.uniform(*self.sigma) / 255)
        noisy = image + sigma * rng.standard_normal(image.shape, np.float32)
        return np.clip(noisy, 0, 1, out=noisy) if self.clip else noisy


@dataclass(frozen=True)
class BenchmarkNoise(Degradation):
    """The white Gaussian noise of denoising benchmarks, the same numbers for every image of a size; not clipped.

    SwinIR's test script draws it by NumPy's legacy generator of seed 0, in double precision, blue before red.
    (Restormer's draws the same numbers red before blue.)

    Args:
        sigma: σ in grey levels of 255, at least 0.
    """

    sigma: float = 25.0

    def __post_init__(self) -> None:
        _check("sigma", self.sigma, 0, math.inf)

    def apply(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Add noise; `rng` is not used."""
        noise = np.random.RandomState(0).normal(0, self.sigma / 255, image.shape)
        return (image + noise[..., ::-1]).astype(np.float32)


@dataclass(frozen=True)
class JPEGCompression(Degradation):
    """JPEG's artefacts, by encoding and decoding the image in 8 bits; blocks begin at its upper left corner.

    Args:
        quality: of the encoder, 1 to 100; rounded to whole numbers.
    """

    quality: Range = (10.0, 40.0)

    def __post_init__(self) -> None:
        _check("quality", self.quality, 1, 100)

    def apply(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Compress the whole image at one quality."""
        levels = jpeg(_to_8_bit(image), round(rng.uniform(*self.quality)))
        return levels.astype(np.float32) / np.float32(255)


@dataclass(frozen=True)
class ShotNoise(Degradation):
    """Photon counting noise, I = Poisson(J·p) / p: its variance grows with the light; clipped at white.

    Args:
        photons: p, photons that a white pixel counts, > 0; 100 is a dim scene, 10 000 a bright one.
    """

    photons: Range = (50.0, 1000.0)

    def __post_init__(self) -> None:
        _check("photons", self.photons, 1e-3, math.inf)

    def apply(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Count the photons of every pixel and channel anew."""
        photons = rng.uniform(*self.photons)
        return np.clip(rng.poisson(image * photons) / photons, 0, 1).astype(np.float32)


@dataclass(frozen=True)
class MotionBlur(Degradation):
    """Blur of a camera that moves straight and evenly during the exposure: mean along a line, to a fraction of a pixel.

    Borders are mirrored.

    Args:
        length: of the path in pixels, at least 0.
        angle: of the path from the vertical, in degrees.
    """

    length: Range = (5.0, 20.0)
    angle: Range = (-90.0, 90.0)

    def __post_init__(self) -> None:
        _check("length", self.length, 0, math.inf)
        _check("angle", self.angle, -180, 180)

    @property
    def reach(self) -> int:  # type: ignore[override]
        """Half of the longest path, and a pixel that it may enter."""
        return math.ceil(self.length[1] / 2) + 1

    def apply(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Blur all channels along one path."""
        kernel = motion_kernel(rng.uniform(*self.length), rng.uniform(*self.angle))
        blurred = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT)
        return np.clip(blurred, 0, 1).reshape(image.shape)


@dataclass(frozen=True)
class BicubicDownsampling(Degradation):
    """Shrinking by MATLAB's antialiased bicubic `imresize`, the benchmark input of super-resolution; clipped.

    Args:
        scale: whole factor by which both sides shrink, at least 1.
        eight_bit: shrink 8-bit levels, which are rounded after each axis, as the benchmarks' files are made.
    """

    scale: int = 2
    eight_bit: bool = False

    def __post_init__(self) -> None:
        _check("scale", self.scale, 1, 100)

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
            return imresize(_to_8_bit(image), 1 / self.scale).astype(np.float32) / np.float32(255)
        return np.clip(imresize(image, 1 / self.scale), 0, 1)


@dataclass(frozen=True)
class Chain(Degradation):
    """Several degradations, one after the other.

    Args:
        steps: at least one, in the order in which they happened.
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
        """Each step adds its own to what the ones before it leave of theirs."""
        reach = 0
        for step in self.steps:
            reach = math.ceil(reach / step.scale) + step.reach
        return reach

    def apply(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply every step to the result of the one before."""
        for step in self.steps:
            image = step.apply(image, rng)
        return image


def streak_kernel(length: float, width: float, angle: float) -> NDArray:
    """Draw the streak of a single drop: even along its path, with a bell-shaped section, averaged over pixels.

    Args:
        length: of the path in pixels.
        width: full width at half maximum in pixels.
        angle: from the vertical in degrees; positive leans to the right at the top.

    Returns:
        Shape (K, K), K odd, float32; 1 along the middle of a wide streak.
    """
    sigma = width / math.sqrt(8 * math.log(2))
    along, across = _rotated_grid(math.ceil(length / 2 + 3 * sigma + 0.5), angle)
    ends = np.clip((length + 1) / 2 - np.abs(along), 0, min(length, 1.0))
    # Mean over a pixel's width of exp(−across² / 2σ²).
    edges = np.stack([across - 0.5, across + 0.5]) / (math.sqrt(2) * sigma)
    section = math.sqrt(math.pi / 2) * sigma * np.diff(erf(edges), axis=0)[0]
    return (ends * section).astype(np.float32)


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


def _rotated_grid(radius: int, angle: float) -> tuple[NDArray, NDArray]:
    right, down = np.meshgrid(np.arange(-radius, radius + 1.0), np.arange(-radius, radius + 1.0))
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    return sine * right - cosine * down, cosine * right + sine * down


def _to_8_bit(image: NDArray) -> NDArray:
    return np.rint(image * 255).clip(0, 255).astype(np.uint8)


def _check(name: str, value: Range | float, low: float, high: float) -> None:
    is_range = isinstance(value, tuple | list)
    ends = value if isinstance(value, tuple | list) else (value, value)
    if len(ends) != 2 or not low <= ends[0] <= ends[1] <= high or not all(map(math.isfinite, ends)):
        wanted = "be a range (low, high) with low ≤ high, both" if is_range else "lie"
        raise ValueError(f"{name} ({value}) must {wanted} in [{low}, {high}]")
