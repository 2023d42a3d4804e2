"""MST++ as published, in the published order of computation (Cai et al., CVPRW 2022), for RGB and for CASSI.

Written from the paper's equations and the released checkpoints' key and shape lists, and checked against
outputs of the official code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.reference.mst import SpectralUNet


class SingleStage(SpectralUNet):
    """Single-stage spectral-wise transformer: (B, C, H, W) → (B, C, H, W), H and W multiples of 4."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.add_levels(dim, stage=2, num_blocks=(1, 1, 1))
        self.mapping = nn.Conv2d(dim, dim, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.mapping(self.encode_decode(self.embedding(x))) + x


class MSTPlusPlus(nn.Module):
    """Spectra from RGB: (B, in_channels, H, W) → (B, out_channels, H, W), padded inside to a multiple of 8.

    The long residual starts after `conv_in`, so `out_channels` is `n_feat`.
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 31, n_feat: int = 31, stage: int = 3) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, n_feat, 3, padding=1, bias=False)
        self.body = nn.Sequential(*(SingleStage(n_feat) for _ in range(stage)))
        self.conv_out = nn.Conv2d(n_feat, out_channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % 8, 0, -height % 8), mode="reflect")
        x = self.conv_in(x)
        out = self.conv_out(self.body(x)) + x
        return out[:, :, :height, :width]


class CassiMSTPlusPlus(nn.Module):
    """CASSI reconstruction: shifted-back measurement and mask, each (B, 28, H, W) → (B, 28, H, W).

    `fution` is the released checkpoints' spelling.
    """

    def __init__(self, in_channels: int = 28, out_channels: int = 28, n_feat: int = 28, stage: int = 3) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, n_feat, 3, padding=1, bias=False)
        self.fution = nn.Conv2d(56, 28, 1)
        self.body = nn.Sequential(*(SingleStage(n_feat) for _ in range(stage)))
        self.conv_out = nn.Conv2d(n_feat, out_channels, 3, padding=1, bias=False)

    def forward(self, measurement: Tensor, mask: Tensor) -> Tensor:
        x = self.fution(torch.cat([measurement, mask], dim=1))
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % 8, 0, -height % 8), mode="reflect")
        x = self.conv_in(x)
        out = self.conv_out(self.body(x)) + x
        return out[:, :, :height, :width]
