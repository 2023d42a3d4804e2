"""Windows with bias and mask, and random tokens in them, that tests of kernels share."""

import dataclasses
import math

import torch

from nystra import WindowGeometry
from nystra.windows.position_bias import TableBias

HEADS, CHANNELS = 3, 5


@dataclasses.dataclass(frozen=True)
class Scene:
    """Windows of two images or films: window, grid and shift, and whether there is a position bias."""

    window: tuple[int, ...] = (8, 8)
    grid: tuple[int, ...] = (2, 3)
    shift: tuple[int, ...] = ()
    biased: bool = True

    def geometry(self, dtype: torch.dtype = torch.float64) -> WindowGeometry:
        generator = torch.Generator().manual_seed(1)
        rows = math.prod(2 * side - 1 for side in self.window)
        table = torch.randn(rows, HEADS, generator=generator, dtype=dtype)
        bias = TableBias(table, self.window) if self.biased else None
        return WindowGeometry(self.window, self.grid, self.shift, bias, {})

    def tokens(self, dtype: torch.dtype = torch.float64, scale: float = 1) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(2)
        shape = (2 * math.prod(self.grid), HEADS, math.prod(self.window), CHANNELS)
        return [(scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype) for _ in range(3)]


SCENES = [
    Scene(),
    Scene(biased=False),
    Scene(shift=(4, 4)),
    Scene(window=(4, 6), grid=(2, 1), shift=(2, 3)),
    Scene(shift=(4, 4), biased=False),
    Scene(window=(2, 4, 6), grid=(2, 1, 2), shift=(1, 2, 3)),
    Scene(window=(2, 4, 4), grid=(1, 2, 2), shift=(0, 2, 2), biased=False),
]
