"""Noise of sensors, and the Gaussian noise of the benchmarks."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.degradations.base import Degradation, Range, check_range


@dataclass(frozen=True)
class GaussianNoise(Degradation):
    """White Gaussian noise, I = J + n with n ~ N(0, σ²) per pixel and channel, as sensors' read noise.

    Args:
        sigma: σ in grey levels of 255, at least 0.
        clip: to [0, 1], as a sensor does; denoising benchmarks do not.

    Examples:
        >>> import numpy as np
        >>> from datamodules.degradations import GaussianNoise
        >>> grey = np.full((64, 64, 1), 0.5, np.float32)
        >>> noisy = GaussianNoise((25, 25)).apply(grey, np.random.default_rng(0))
        >>> round(float(255 * noisy.std()), 1)
        25.0
    """

    sigma: Range = (5.0, 50.0)
    clip: bool = True

    def __post_init__(self) -> None:
        check_range("sigma", self.sigma, 0, math.inf)

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

    Examples:
        >>> import numpy as np
        >>> from datamodules.degradations import BenchmarkNoise
        >>> grey = np.full((1, 2, 3), 0.5, np.float32)
        >>> BenchmarkNoise(25).apply(grey, np.random.default_rng(0)).round(3)
        array([[[0.596, 0.539, 0.673],
                [0.404, 0.683, 0.72 ]]], dtype=float32)
    """

    sigma: float = 25.0

    def __post_init__(self) -> None:
        check_range("sigma", self.sigma, 0, math.inf)

    def apply(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Add noise; `rng` is not used."""
        noise = np.random.RandomState(0).normal(0, self.sigma / 255, image.shape)
        return (image + noise[..., ::-1]).astype(np.float32)


@dataclass(frozen=True)
class ShotNoise(Degradation):
    """Photon counting noise, I = Poisson(J·p) / p: its variance grows with the light; clipped at white.

    Args:
        photons: p, photons that a white pixel counts, > 0; 100 is a dim scene, 10 000 a bright one.

    Examples:
        >>> import numpy as np
        >>> from datamodules.degradations import ShotNoise
        >>> ramp = np.array([[[0.0], [0.25], [0.5]]], np.float32)
        >>> ShotNoise(photons=(100, 100)).apply(ramp, np.random.default_rng(0))[0, :, 0]
        array([0.  , 0.21, 0.62], dtype=float32)
    """

    photons: Range = (50.0, 1000.0)

    def __post_init__(self) -> None:
        check_range("photons", self.photons, 1e-3, math.inf)

    def apply(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Count the photons of every pixel and channel anew."""
        photons = rng.uniform(*self.photons)
        return np.clip(rng.poisson(image * photons) / photons, 0, 1).astype(np.float32)


@dataclass(frozen=True)
class ClipNoise(Degradation):
    """White Gaussian noise of one strength in all frames of a clip, not clipped, with its strength as a fourth channel.

    So networks of non-blind video denoising (VRT, RVRT) take it: beside the colours σ / 255, constant.

    Args:
        sigma: σ in grey levels of 255, at least 0; of a range, one is drawn for each clip.
        benchmark: draw the noise of the published tests: torch's normal numbers of seed 0 for the whole clip, frame by
            frame, red before green before blue.

    Examples:
        >>> import numpy as np
        >>> from datamodules.degradations import ClipNoise
        >>> grey = np.full((2, 32, 32, 3), 0.5, np.float32)
        >>> noisy = ClipNoise((25, 25)).apply_to_clip(grey, np.random.default_rng(0))
        >>> noisy.shape, round(float(255 * noisy[..., :3].std()), 1), round(float(255 * noisy[..., 3].max()), 1)
        ((2, 32, 32, 4), 24.8, 25.0)
    """

    sigma: Range = (0.0, 50.0)
    benchmark: bool = False

    def __post_init__(self) -> None:
        check_range("sigma", self.sigma, 0, math.inf)

    def apply(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """Add noise to an image as to a clip of one frame."""
        return self.apply_to_clip(image[None], rng)[0]

    def apply_to_clip(self, frames: NDArray, rng: np.random.Generator) -> NDArray:
        """Add noise of one strength to all frames: (T, H, W, C) → (T, H, W, C + 1)."""
        sigma = np.float32(rng.uniform(*self.sigma) / 255)
        if self.benchmark:
            generator = torch.Generator().manual_seed(0)
            count, height, width, channels = frames.shape
            drawn = torch.randn(count, channels, height, width, generator=generator)
            noise = drawn.permute(0, 2, 3, 1).numpy()
        else:
            noise = rng.standard_normal(frames.shape, np.float32)
        return np.concatenate([frames + sigma * noise, np.full_like(frames[..., :1], sigma)], axis=-1)
