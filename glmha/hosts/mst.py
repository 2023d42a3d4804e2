"""MST with any channel attention: for CASSI with a mask, for the real camera's CASSI, and from RGB."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glmha.attention.base import ChannelAttention
from glmha.attention.factories import AttentionFactory
from glmha.conventions.mst import MSTConvention
from glmha.hosts.recorded_attention import recorded_attention
from glmha.hosts.spectral_unet import LEAKY_SLOPE, PADDED_MULTIPLE, SpectralUNet, reflect_to_multiple
from glmha.shared.state_dicts import StateDict, count

# Pixels by which CASSI's prism moves a band against the one before it.
DISPERSION = 2


class MST(SpectralUNet):
    """MST for CASSI, guided by the coded aperture's mask.

    From "Mask-guided spectral-wise transformer for efficient hyperspectral image reconstruction" (Cai et al., CVPR
    2022). Argument names and state-dict keys are upstream's. `num_blocks` is (2, 2, 2) in MST-S, (2, 4, 4) in MST-M and
    (4, 7, 5) in MST-L.

    Args:
        dim: number of spectral bands, and C at the finest level.
        stage: number of levels above the bottleneck.
        num_blocks: blocks of the levels, finest first; the last is the bottleneck.
        attention: factory (channels, heads) → module, or one per level, from the finest to the bottleneck. The decoder
            uses its level's. Modules that are not this package's are called with the mask's features as well.

    Raises:
        ValueError: if `dim` or `stage` is below 1, or `num_blocks` or `attention` does not suit `stage`.

    Examples:
        >>> import torch
        >>> from glmha import GLMHA, MST
        >>> net = MST(dim=8, stage=1, num_blocks=(1, 1), attention=GLMHA)
        >>> net(torch.rand(1, 8, 16, 16), torch.rand(1, 8, 16, 30)).shape
        torch.Size([1, 8, 16, 16])
    """

    def __init__(
        self,
        dim: int = 28,
        stage: int = 2,
        num_blocks: Sequence[int] = (2, 2, 2),
        attention: AttentionFactory | Sequence[AttentionFactory] = ChannelAttention,
    ) -> None:
        super().__init__(dim, stage, num_blocks, attention, MSTConvention(mask_guided=True))
        self.embedding = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.mapping = nn.Conv2d(dim, dim, 3, padding=1, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Reconstruct spectral cubes.

        Args:
            x: measurements shifted back, (B, dim, H, H), H a multiple of 2ˢ and at most 256 (the trained size).
            mask: the mask, dispersed like the measurement, (B or 1, dim, H, H + 2·(dim - 1)); the first guides the
                whole batch, as upstream. None: zeros, as upstream.

        Returns:
            Shape (B, dim, H, H), not clamped.

        Raises:
            ValueError: if `x` is not square or no multiple of 2ˢ, above 256, or the mask does not suit it.
        """
        height, width = x.shape[-2:]
        self._check_size("x", height, width)
        if height != width:
            raise ValueError(f"x must be square, got {height}×{width}: a mask shifted back is as wide as it is high")
        if mask is None:
            mask = x.new_zeros(1, self.dim, height, height + DISPERSION * (self.dim - 1))
        if mask.shape[1] != self.dim or mask.shape[2] != height:
            raise ValueError(
                f"mask must have shape (B or 1, {self.dim}, {height}, {height + DISPERSION * (self.dim - 1)}), "
                f"got {tuple(mask.shape)}"
            )
        x = x.contiguous(memory_format=torch.channels_last)
        mask = mask[:1].contiguous(memory_format=torch.channels_last)
        features = F.leaky_relu(self.embedding(x), LEAKY_SLOPE, inplace=True)
        return self.mapping(self.encode_decode(features, mask)) + x


class RealMST(SpectralUNet):
    """MST for the real CASSI camera, without a mask.

    Argument names and state-dict keys are upstream's (`fution` among them); sizes S, M and L as in `MST`.

    Args:
        dim: number of spectral bands, and C at the finest level.
        stage: number of levels above the bottleneck.
        num_blocks: blocks of the levels, finest first; the last is the bottleneck.
        attention: factory (channels, heads) → module, or one per level, from the finest to the bottleneck. The decoder
            uses its level's.

    Raises:
        ValueError: if `dim` or `stage` is below 1, or `num_blocks` or `attention` does not suit `stage`.

    Examples:
        >>> import torch
        >>> from glmha import GLMHA, RealMST
        >>> net = RealMST(dim=8, stage=1, num_blocks=(1, 1), attention=GLMHA)
        >>> net(torch.rand(1, 16, 30)).shape
        torch.Size([1, 8, 16, 16])
    """

    def __init__(
        self,
        dim: int = 28,
        stage: int = 2,
        num_blocks: Sequence[int] = (2, 2, 2),
        attention: AttentionFactory | Sequence[AttentionFactory] = ChannelAttention,
    ) -> None:
        super().__init__(dim, stage, num_blocks, attention, MSTConvention())
        self.embedding = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.fution = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.mapping = nn.Conv2d(dim, dim, 3, padding=1, bias=False)

    def forward(self, measurement: Tensor) -> Tensor:
        """Reconstruct spectral cubes.

        Args:
            measurement: the camera's images, (B, H, W + 2·(dim - 1)), H and W multiples of 2ˢ.

        Returns:
            Shape (B, dim, H, W), not clamped.

        Raises:
            ValueError: if H or W is no multiple of 2ˢ, or nothing is left of the width.
        """
        dispersed = DISPERSION * (self.dim - 1)
        height, width = measurement.shape[1], measurement.shape[2] - dispersed
        if width < 1:
            raise ValueError(
                f"measurement width ({measurement.shape[2]}) must exceed the dispersion of {dispersed} pixels"
            )
        self._check_size(f"measurement (less {dispersed} columns of dispersion)", height, width)
        shifted_back = measurement.unfold(2, width, DISPERSION).transpose(1, 2)
        x = self.fution(shifted_back.contiguous(memory_format=torch.channels_last))
        features = F.leaky_relu(self.embedding(x), LEAKY_SLOPE, inplace=True)
        return self.mapping(self.encode_decode(features)) + x


class RGBMST(SpectralUNet):
    """MST from RGB to spectra, the baseline in the repository of MST++: a second embedding serves as mask.

    Argument names and state-dict keys are upstream's; sizes S, M and L as in `MST`. As upstream, the first image's mask
    guides the whole batch: restore images one at a time where that matters.

    Args:
        dim: number of spectral bands, and C at the finest level.
        stage: number of levels above the bottleneck, 1 to 3.
        num_blocks: blocks of the levels, finest first; the last is the bottleneck.
        attention: factory (channels, heads) → module, or one per level, from the finest to the bottleneck. The decoder
            uses its level's. Modules that are not this package's are called with the mask's features as well.

    Raises:
        ValueError: if `dim` or `stage` is out of range, or `num_blocks` or `attention` does not suit `stage`.

    Examples:
        >>> import torch
        >>> from glmha import GLMHA, RGBMST
        >>> net = RGBMST(dim=8, stage=1, num_blocks=(1, 1), attention=GLMHA)
        >>> net(torch.rand(1, 3, 20, 18)).shape
        torch.Size([1, 8, 20, 18])
    """

    def __init__(
        self,
        dim: int = 31,
        stage: int = 2,
        num_blocks: Sequence[int] = (2, 2, 2),
        attention: AttentionFactory | Sequence[AttentionFactory] = ChannelAttention,
    ) -> None:
        if stage > 3:
            raise ValueError(f"stage ({stage}) must be at most 3: images are padded to multiples of 8")
        super().__init__(dim, stage, num_blocks, attention, MSTConvention(mask_guided=True, dispersed=False))
        self.size_multiple = PADDED_MULTIPLE
        self.embedding_1 = nn.Conv2d(3, dim, 3, padding=1, bias=False)
        self.embedding_2 = nn.Conv2d(3, dim, 3, padding=1, bias=False)
        self.mapping = nn.Conv2d(dim, dim, 3, padding=1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct spectra.

        Args:
            image: RGB, (B, 3, H, W), H and W at least 5; reflected inside to multiples of 8.

        Returns:
            Shape (B, dim, H, W), not clamped.

        Raises:
            ValueError: if the image is too small to be reflected.
        """
        height, width = image.shape[-2:]
        image = reflect_to_multiple(image)
        mask = F.leaky_relu(self.embedding_1(image[:1]), LEAKY_SLOPE, inplace=True)
        x = F.leaky_relu(self.embedding_2(image), LEAKY_SLOPE, inplace=True)
        result = self.mapping(self.encode_decode(x, mask)) + x
        return result[:, :, :height, :width]


def mst_arguments(weights: StateDict) -> dict[str, Any]:
    """Infer the constructor arguments of an MST, of any of the three classes, from keys and shapes."""
    stage = count(weights, "encoder_layers")
    levels = [f"encoder_layers.{level}.0." for level in range(stage)] + ["bottleneck."]
    return {
        "dim": weights["mapping.weight"].shape[0],
        "stage": stage,
        "num_blocks": [count(weights, f"{level}blocks") for level in levels],
        "attention": [recorded_attention(weights, f"{level}blocks.0.0.") for level in levels],
    }
