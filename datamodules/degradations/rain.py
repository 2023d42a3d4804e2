"""Rain streaks and the veil of distant rain.

Parameters are drawn uniformly from ranges (low, high); equal ends fix a parameter.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from datamodules.degradations.base import Degradation, Range, check_range, smooth_field


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

    Examples:
        >>> import numpy as np
        >>> from datamodules.degradations import Rain
        >>> grey = np.full((64, 64, 3), 0.3, np.float32)
        >>> rainy = Rain(haze=(0, 0)).apply(grey, np.random.default_rng(0))
        >>> bool((rainy >= grey).all()), round(float((rainy > grey).mean()), 2)
        (True, 0.2)
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
        check_range("angle", self.angle, -90, 90)
        check_range("length", self.length, 1, math.inf)
        check_range("width", self.width, 0.1, math.inf)
        check_range("density", self.density, 0, 10_000)
        check_range("brightness", self.brightness, 0, 1)
        check_range("layers", self.layers, 1, 100)
        check_range("haze", self.haze, 0, math.inf)
        check_range("airlight", self.airlight, 0, 1)
        check_range("depth_scale", self.depth_scale, 1, math.inf)

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


def _rotated_grid(radius: int, angle: float) -> tuple[NDArray, NDArray]:
    right, down = np.meshgrid(np.arange(-radius, radius + 1.0), np.arange(-radius, radius + 1.0))
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    return sine * right - cosine * down, cosine * right + sine * down
