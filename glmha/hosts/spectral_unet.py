"""The U-shaped network of spectral blocks that MST and MST++ are made of."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glmha.attention.factories import AttentionFactory, build, per_level
from glmha.conventions.mst import MSTConvention
from glmha.layers import FeedForward
from glmha.shared.recompute import recomputable

LEAKY_SLOPE = 0.1
# Hosts for RGB reflect their input up to multiples of this.
PADDED_MULTIPLE = 8


def reflect_to_multiple(image: Tensor) -> Tensor:
    """Reflect an image (B, C, H, W) at the bottom and right up to multiples of 8; channels-last memory.

    Raises:
        ValueError: if the image is too small to be reflected.
    """
    height, width = image.shape[-2:]
    below, right = -height % PADDED_MULTIPLE, -width % PADDED_MULTIPLE
    if below >= height or right >= width:
        raise ValueError(
            f"image height and width must be at least 5, got {height}×{width}: they are reflected to multiples of 8"
        )
    image = image.contiguous(memory_format=torch.channels_last)
    return F.pad(image, (0, right, 0, below), mode="reflect") if below or right else image


class PreNormFeedForward(nn.Module):
    """feed-forward(norm(x)) (keys `norm`, `fn.net`)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fn = FeedForward(channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return self.fn(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


class SpectralBlock(nn.ModuleList):
    """x + attention(x), then x + feed-forward(norm(x)) (keys `0`, `1`)."""

    recompute = False
    """Whether a training step computes activations inside the block twice instead of keeping them."""

    def __init__(self, channels: int, attention: nn.Module) -> None:
        super().__init__([attention, PreNormFeedForward(channels)])

    @recomputable
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) to the same shape; the mask's features go to the attention where there are any."""
        attention, feed_forward = self
        x = x + (attention(x) if mask is None else attention(x, mask))
        return x + feed_forward(x)


class SpectralBlocks(nn.Module):
    """A run of blocks at one level (key `blocks`)."""

    def __init__(self, channels: int, attentions: Iterable[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SpectralBlock(channels, attention) for attention in attentions)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        for block in self.blocks:
            x = block(x, mask)
        return x


class SpectralUNet(nn.Module):
    """The U of spectral blocks that every MST and every stage of MST++ shares.

    Level l has dim·2ˡ channels in 2ˡ heads. A base class and no member, because the keys of released checkpoints have
    no prefix for it.

    Args:
        dim: C at the finest level, and channels of every head.
        stage: number of levels above the bottleneck, S; sizes must be multiples of 2ˢ.
        num_blocks: blocks of the levels, finest first; the last is the bottleneck.
        attention: factory (channels, heads) → module, or S + 1 of them, from the finest level to the bottleneck. The
            decoder uses its level's.
        convention: how attentions of this package are laid out; mask guidance adds a down-sampling of the mask.

    Raises:
        ValueError: if `dim` or `stage` is below 1, or `num_blocks` or `attention` does not suit `stage`.
    """

    def __init__(
        self,
        dim: int,
        stage: int,
        num_blocks: Sequence[int],
        attention: AttentionFactory | Sequence[AttentionFactory],
        convention: MSTConvention,
    ) -> None:
        super().__init__()
        for name, value in (("dim", dim), ("stage", stage)):
            if value < 1:
                raise ValueError(f"{name} ({value}) must be at least 1")
        if len(num_blocks) != stage + 1:
            raise ValueError(
                f"num_blocks ({list(num_blocks)}) must have stage + 1 = {stage + 1} entries, one per level from the "
                "finest to the bottleneck"
            )
        factories = per_level(attention, stage + 1)

        def blocks(level: int) -> SpectralBlocks:
            channels, heads = dim * 2**level, 2**level
            return SpectralBlocks(
                channels, (build(factories[level], channels, heads, convention) for _ in range(num_blocks[level]))
            )

        self.dim = dim
        self.size_multiple = 2**stage
        self.encoder_layers = nn.ModuleList()
        for level in range(stage):
            channels = dim * 2**level
            downs = [nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1, bias=False) for _ in range(2)]
            self.encoder_layers.append(nn.ModuleList([blocks(level), *downs[: 1 + convention.mask_guided]]))
        self.bottleneck = blocks(stage)
        self.decoder_layers = nn.ModuleList()
        for level in reversed(range(stage)):
            channels = dim * 2**level
            up = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2)
            fuse = nn.Conv2d(2 * channels, channels, 1, bias=False)
            self.decoder_layers.append(nn.ModuleList([up, fuse, blocks(level)]))

    def encode_decode(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run the U.

        Args:
            x: features, (B, dim, H, W), H and W multiples of 2ˢ.
            mask: features of the mask, one for the batch, (1, dim, H', W'), where the convention is mask-guided.

        Returns:
            Shape (B, dim, H, W).
        """
        skips = []
        for layer in self.encoder_layers:
            blocks, down, *mask_down = cast(nn.ModuleList, layer)
            x = blocks(x, mask)
            skips.append((x, mask))
            x = down(x)
            if mask is not None:
                mask = mask_down[0](mask)
        x = self.bottleneck(x, mask)
        for layer in self.decoder_layers:
            up, fuse, blocks = cast(nn.ModuleList, layer)
            skip, mask = skips.pop()
            x = blocks(fuse(torch.cat([up(x), skip], 1)), mask)
        return x

    def _check_size(self, name: str, height: int, width: int) -> None:
        if height % self.size_multiple or width % self.size_multiple:
            raise ValueError(
                f"{name} height and width must be multiples of {self.size_multiple}, got {height}×{width}: crop or pad"
            )
