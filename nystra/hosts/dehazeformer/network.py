"""DehazeFormer (Song et al., "Vision Transformers for Single Image Dehazing", TIP 2023) under its released keys."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glmha.shared.graphs import is_recorded
from nystra.hosts.dehazeformer.blocks import (
    Attention,
    Block,
    ConvType,
    Layer,
    PointwiseConv,
    SKFusion,
    named,
)
from nystra.sites.host import WindowHost

# Per level: pixels of the image along one of its features, and heads of the released models.
STRIDES = (1, 2, 4, 2, 1)
HEADS = (2, 4, 6, 1, 1)


class DehazeFormer(WindowHost):
    """DehazeFormer: a five-level U of convolutions and window attention that predicts K and B of K·x - B + x.

    Argument names and state-dict keys are upstream's, so released checkpoints load strictly. The levels are two ever
    coarser ones, the coarsest, two ever finer ones; the defaults are DehazeFormer-B's.

    Args:
        in_chans: channels of the image.
        out_chans: one for K and `in_chans` for B.
        window_size: side of the windows, in tokens.
        embed_dims: C of each level; the last two mirror the first two.
        mlp_ratios: hidden channels of the feed-forward networks over C.
        depths: blocks of each level.
        num_heads: heads of each level; they divide C where blocks attend.
        attn_ratio: share of a level's blocks that attend, its last ones; the others only convolve.
        conv_type: of each level: "Conv" (two 3×3 convolutions), "DWConv" (one 5×5 depthwise) or None (all attend).

    Raises:
        ValueError: if an argument has not five entries or does not fit the others.

    Examples:
        >>> import torch
        >>> from nystra import DehazeFormer
        >>> net = DehazeFormer(embed_dims=(4, 8, 8, 8, 4), num_heads=(1, 2, 2, 1, 1), depths=(1, 2, 2, 1, 1))
        >>> hazy = torch.rand(1, 3, 37, 50)
        >>> net(2 * hazy - 1).shape
        torch.Size([1, 3, 37, 50])
    """

    value_range = (-1.0, 1.0)

    def __init__(
        self,
        in_chans: int = 3,
        out_chans: int = 4,
        window_size: int = 8,
        embed_dims: Sequence[int] = (24, 48, 96, 48, 24),
        mlp_ratios: Sequence[float] = (2.0, 4.0, 4.0, 2.0, 2.0),
        depths: Sequence[int] = (16, 16, 16, 8, 8),
        num_heads: Sequence[int] = HEADS,
        attn_ratio: Sequence[float] = (0.25, 0.5, 0.75, 0, 0),
        conv_type: Sequence[ConvType] = ("DWConv", "DWConv", "DWConv", "DWConv", "DWConv"),
    ) -> None:
        super().__init__()
        named_levels: dict[str, Sequence[Any]] = {
            "embed_dims": embed_dims,
            "mlp_ratios": mlp_ratios,
            "depths": depths,
            "num_heads": num_heads,
            "attn_ratio": attn_ratio,
            "conv_type": conv_type,
        }
        for name, values in named_levels.items():
            if len(values) != len(STRIDES):
                raise ValueError(f"{name} ({list(values)}) must have five entries, one per level, got {len(values)}")
        if list(embed_dims[3:]) != [embed_dims[1], embed_dims[0]]:
            raise ValueError(
                f"embed_dims ({list(embed_dims)}) must end in their second and first entry: skips add them"
            )
        if out_chans != in_chans + 1:
            raise ValueError(f"out_chans ({out_chans}) must be in_chans + 1 (K, and a B per channel), got {in_chans=}")
        if window_size < 1:
            raise ValueError(f"window_size ({window_size}) must be at least 1")
        for level, (dim, heads, kind) in enumerate(zip(embed_dims, num_heads, conv_type, strict=True), start=1):
            depth, share = depths[level - 1], attn_ratio[level - 1]
            attend = attending(depth, share)
            if attend and (heads < 1 or dim % heads):
                raise ValueError(f"num_heads ({heads}) of level {level} must divide its embed_dims ({dim})")
            if kind not in ("Conv", "DWConv", None):
                raise ValueError(f"conv_type ({kind}) of level {level} must be Conv, DWConv or None")
            if kind is None and attend < depth:
                raise ValueError(f"attn_ratio ({share}) of level {level} must be 1 where conv_type is None")
        self.window_size = window_size

        def layer(level: int) -> Layer:
            dim, depth = embed_dims[level], depths[level]
            first = depth - attending(depth, attn_ratio[level])
            blocks = []
            for index in range(depth):
                attention = Attention(
                    dim,
                    num_heads[level],
                    window_size,
                    attends=index >= first,
                    shifted=index % 2 == 1,
                    conv_type=conv_type[level],
                )
                blocks.append(Block(dim, attention, widened(dim, mlp_ratios[level])))
            return Layer(*blocks)

        def merge(coarser: int, finer: int) -> nn.Sequential:
            return named("proj", nn.Conv2d(finer, coarser, 2, stride=2))

        def split(coarser: int, finer: int) -> nn.Sequential:
            return named("proj", nn.Sequential(PointwiseConv(coarser, 4 * finer), nn.PixelShuffle(2)))

        fine, middle, coarse = embed_dims[:3]
        self.patch_embed = named("proj", nn.Conv2d(in_chans, fine, 3, padding=1, padding_mode="reflect"))
        self.layer1 = layer(0)
        self.patch_merge1 = merge(middle, fine)
        self.skip1 = PointwiseConv(fine, fine)
        self.layer2 = layer(1)
        self.patch_merge2 = merge(coarse, middle)
        self.skip2 = PointwiseConv(middle, middle)
        self.layer3 = layer(2)
        self.patch_split1 = split(coarse, middle)
        self.fusion1 = SKFusion(middle)
        self.layer4 = layer(3)
        self.patch_split2 = split(middle, fine)
        self.fusion2 = SKFusion(fine)
        self.layer5 = layer(4)
        last = nn.Conv2d(fine, out_chans, 3, padding=1, padding_mode="reflect")
        self.patch_unembed = named("proj", nn.Sequential(last))
        self._initialise(sum(depths))

    def _initialise(self, depth: int) -> None:
        # DeepNet (Wang et al., 2022): initial weights of all maps but queries and keys shrink with the depth.
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and ".blocks." in name and ".norm1." not in name:
                nn.init.xavier_normal_(module.weight, 1.0 if name.endswith(".QK") else (8 * depth) ** -0.25)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Restore an image.

        Args:
            image: shape (B, in_chans, H, W), range [-1, 1].

        Returns:
            Shape (B, in_chans, H, W), not clamped.

        Raises:
            ValueError: if reflection cannot pad so small an image as its windows need.
        """
        height, width = image.shape[2:]
        if not is_recorded():
            self.check_size(height, width)
        below, right = ((side + 3) // 4 * 4 - side for side in (height, width))
        x = F.pad(image, (0, right, 0, below), mode="reflect") if is_recorded() or below or right else image
        x = self.patch_embed(x.contiguous(memory_format=torch.channels_last))
        # Again: strides of a batch of one image can count as channels last and still lead to other features.
        level1 = self.layer1(x.contiguous(memory_format=torch.channels_last))
        level2 = self.layer2(self.patch_merge1(level1))
        x = self.patch_split1(self.layer3(self.patch_merge2(level2)))
        x = self.patch_split2(self.layer4(self.fusion1(x, self.skip2(level2)) + x))
        x = self.layer5(self.fusion2(x, self.skip1(level1)) + x)
        factor, offset = self.patch_unembed(x)[:, :, :height, :width].split((1, image.shape[1]), 1)
        return torch.addcmul(image - offset, image, factor)

    def check_size(self, height: int, width: int) -> None:
        """Refuse images that are too small, because reflection pads by less than the length that it extends.

        Raises:
            ValueError: if the image is too small for its windows.
        """
        for axis, side in enumerate((height, width)):
            for length, reach in self._reflections(axis, side):
                if reach >= length:
                    enough = 4 * max(self.window_size, 3)
                    raise ValueError(
                        f"image ({height}×{width}) must be larger for windows of {self.window_size}×{self.window_size} "
                        f"tokens: {reach} cannot be reflected of {length}; at least {enough}×{enough} always fits"
                    )

    def takes(self, side: int) -> bool:
        """Whether images of this height or width are taken: reflection can pad every level's map to its windows.

        Args:
            side: height or width, in pixels.
        """
        return all(reach < length for axis in (0, 1) for length, reach in self._reflections(axis, side))

    def _reflections(self, axis: int, side: int) -> list[tuple[int, int]]:
        """Lengths of the image and of the levels' maps along an axis, and how far each is reflected beyond its end."""
        padded = side + -side % 4
        layers = (self.layer1, self.layer2, self.layer3, self.layer4, self.layer5)
        lengths = [padded // stride for stride in STRIDES]
        reaches = [layer.reach(axis, length) for layer, length in zip(layers, lengths, strict=True)]
        return [(side, padded - side), *zip(lengths, reaches, strict=True)]


def attending(depth: int, ratio: float) -> int:
    """Number of blocks that attend, of a level's `depth` blocks, where `ratio` is their share."""
    return sum(index >= depth - ratio * depth for index in range(depth))


def widened(dim: int, ratio: float) -> int:
    """Number of hidden channels of a feed-forward network: ⌊dim·ratio⌋."""
    return int(dim * ratio)
