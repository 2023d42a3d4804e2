"""The spectral demonstration: scenes of measured reflectances, textured by photographs, seen by a measured camera."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.demo.restoration import PhotographDataModule, Sample
from datamodules.demo.spectra import Chart, camera, daylight, reflectances
from datamodules.files.images import to_tensor

# Which chart's reflectances each split is painted with.
TRAIN_CHART: Chart = "ColorChecker"
HELD_OUT_CHART: Chart = "PMC"

# Standard deviation in chromaticity of the pixels of one reflectance.
_CHROMATICITY_SIGMA = 0.06
# Share of the light that reaches the darkest pixel, so that no label is nearly 0.
_AMBIENT = 0.2
# Electrons of a white pixel, and those of the camera's read noise: a short exposure, amplified.
_WHITE, _READ_NOISE = 500.0, 3.0


@dataclass(frozen=True)
class Painter:
    """Makes a spectral scene and its photograph out of a colour photograph and measured spectra.

    Each scene has `materials` reflectances of a chart, drawn at random. A pixel is a mixture of them (the linear
    mixing model), the nearer in chromaticity to the photograph's pixel the more, in the shade that the photograph has
    there (V of HSV, on a fifth of ambient light), under daylight:

        cube(λ) = shade · Σ_k w_k · reflectance_k(λ) · D65(λ) / max D65,   w = softmax(−distance² / 2 · 0.06²)

    The camera integrates the cube times its sensitivities, balanced so that white paper under this light is white. The
    exposure is short: white is 500 electrons, with their shot noise and 3 electrons of read noise (σ 0.046 at white,
    0.021 at a fifth of it), in 8 bits, linear. A network has to look at a pixel's neighbours too.

    Attributes:
        chart: of the reflectances.
        materials: reflectances of a scene, at least 1 and at most the chart's.
    """

    chart: Chart
    materials: int

    def __call__(self, photograph: NDArray, *, rng: np.random.Generator, name: str) -> dict[str, Any]:
        """Make a sample.

        Args:
            photograph: shape (H, W, 3), uint8, sRGB.
            rng: draws the reflectances and the noise.
            name: of the sample.

        Returns:
            `input`, RGB, (3, H, W); `target`, 31 bands, (31, H, W), both float32 in [0, 1]; `name`.
        """
        cube = self.paint(photograph, rng)
        return {"input": to_tensor(photographed(cube, rng)), "target": to_tensor(cube), "name": name}

    def paint(self, photograph: NDArray, rng: np.random.Generator) -> NDArray:
        """Paint the photograph's scene with reflectances.

        Args:
            photograph: shape (H, W, 3), uint8, sRGB.
            rng: draws the reflectances.

        Returns:
            Shape (H, W, 31), float32 in (0, 1).
        """
        chart = np.stack(list(reflectances(self.chart).values()))
        drawn = chart[rng.choice(len(chart), self.materials, replace=False)]
        encoded = photograph / 255.0
        distances = _chromaticity(_linear(encoded))[..., None, :] - _chromaticity(drawn @ _response())
        exponents = -np.square(distances).sum(-1) / (2 * _CHROMATICITY_SIGMA**2)
        weights = np.exp(exponents - exponents.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        shade = _AMBIENT + (1 - _AMBIENT) * encoded.max(-1, keepdims=True)
        light = daylight() / daylight().max()
        return (shade * (weights @ drawn) * light).astype(np.float32)


def photographed(cube: NDArray, rng: np.random.Generator) -> NDArray:
    """Take a photograph of a scene.

    Args:
        cube: radiance, shape (H, W, 31), of D65 at most; float.
        rng: draws the noise.

    Returns:
        Shape (H, W, 3), uint8, linear in the light.
    """
    light = daylight() / daylight().max()
    exact = (cube / light) @ _response()
    electrons = rng.poisson(exact * _WHITE) + rng.normal(0, _READ_NOISE, exact.shape)
    return np.rint(np.clip(electrons / _WHITE, 0, 1) * 255).astype(np.uint8)


class SpectralDemoDataModule(PhotographDataModule):
    """RGB → 31 bands (400 to 700 nm) on the photographs of `PhotographDataModule`, painted with measured spectra.

    Training scenes are of the 24 reflectances of the ColorChecker, held-out ones of the 30 of the Preferred Memory
    Colour chart and of other photographs, both under CIE D65 and seen by a Nikon D5100, whose sensitivities were
    measured (`datamodules.demo.spectra` has the sources). See `Painter` for how.

    Args:
        patch_size: side of a training patch.
        batch_size: training patches in a step of the optimiser, over all devices.
        num_workers: processes that paint patches; 0 does it in the main process, at about 1 ms a patch of 32×32.
        seed: of all patches and scenes, at least 0.
        epoch_length: training patches in an epoch, over all devices.
        augment: flips and quarter turns of the photographs' patches.
        eval_size: largest side of a held-out image in pixels, at least 8.
        materials: reflectances of a scene, 1 to 24.

    Raises:
        ValueError: if a number is out of range.

    Examples:
        >>> from datamodules import SpectralDemoDataModule
        >>> data = SpectralDemoDataModule(patch_size=16, batch_size=4, eval_size=32)
        >>> data.setup("fit")
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch["input"].shape, batch["target"].shape
        (torch.Size([4, 3, 16, 16]), torch.Size([4, 31, 16, 16]))
    """

    set_name = "spectral-demo"

    def __init__(
        self,
        *,
        patch_size: int = 32,
        batch_size: int = 8,
        num_workers: int = 0,
        seed: int = 0,
        epoch_length: int = 1600,
        augment: bool = True,
        eval_size: int = 256,
        materials: int = 8,
    ) -> None:
        super().__init__(
            scale=1,
            patch_size=patch_size,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            epoch_length=epoch_length,
            augment=augment,
            eval_size=eval_size,
        )
        most = min(len(reflectances(chart)) for chart in (TRAIN_CHART, HELD_OUT_CHART))
        if not 1 <= materials <= most:
            raise ValueError(f"materials ({materials}) must be from 1 to {most}, the patches of the smaller chart")
        self.materials = materials

    def training_sample(self) -> Sample:
        """Return the painter of the training chart."""
        return Painter(TRAIN_CHART, self.materials)

    def held_out_sample(self) -> Sample:
        """Return the painter of the other chart."""
        return Painter(HELD_OUT_CHART, self.materials)


def _response() -> NDArray:
    """The camera's response to reflectances under daylight, balanced on white: shape (31, 3)."""
    seen = camera() * daylight()
    return (seen / seen.sum(1, keepdims=True)).T


def _linear(encoded: NDArray) -> NDArray:
    """Undo the encoding of sRGB (IEC 61966-2-1)."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _chromaticity(colours: NDArray) -> NDArray:
    """Shares of red, green and blue; black is grey."""
    colours = colours + 1e-3
    return colours / colours.sum(-1, keepdims=True)
