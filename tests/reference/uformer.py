"""Uformer as published, in the published order of computation (Wang et al., CVPR 2022).

Written from the paper and the released checkpoints' key and shape lists, and checked against outputs of the official
code. Tokens (B, H·W, C) of square images become images for every convolution and windows for every attention; masks
are made at every call.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tests.reference.swinir import position_index, shift_mask, window_partition, window_reverse


def to_image(tokens: Tensor) -> Tensor:
    """Tokens of a square image, (B, H·W, C) → (B, C, H, W)."""
    side = math.isqrt(tokens.shape[1])
    return tokens.transpose(1, 2).contiguous().view(len(tokens), -1, side, side)


def to_tokens(image: Tensor) -> Tensor:
    """(B, C, H, W) → (B, H·W, C)."""
    return image.flatten(2).transpose(1, 2).contiguous()


class LinearProjection(nn.Module):
    """Queries, and keys and values, of all heads: (windows, N, C) → three of (windows, heads, N, d)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim)
        self.to_kv = nn.Linear(dim, 2 * dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, n, c = x.shape
        q = self.to_q(x).reshape(b, n, self.heads, c // self.heads).permute(0, 2, 1, 3)
        k, v = self.to_kv(x).reshape(b, n, 2, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v


class WindowAttention(nn.Module):
    """Attention with a table of relative position biases, all logits written: (windows, N, C) → (windows, N, C)."""

    def __init__(self, dim: int, win_size: Sequence[int], num_heads: int) -> None:
        super().__init__()
        height, width = win_size
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * height - 1) * (2 * width - 1), num_heads))
        self.register_buffer("relative_position_index", position_index(height, width))
        self.qkv = LinearProjection(dim, num_heads)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x)
        logits = (q * self.scale) @ k.transpose(-2, -1)
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        logits = logits + bias.view(n, n, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        if mask is not None:
            logits = logits.view(-1, len(mask), self.num_heads, n, n) + mask.unsqueeze(1).unsqueeze(0)
            logits = logits.view(-1, self.num_heads, n, n)
        x = (logits.softmax(dim=-1) @ v).transpose(1, 2).reshape(b, n, c)
        return self.proj(x)


class LeFF(nn.Module):
    """Locally enhanced feed-forward of the tokens of a square image: (B, H·W, C) → (B, H·W, C)."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.linear1 = nn.Sequential(nn.Linear(dim, hidden_dim), nn.GELU())
        self.dwconv = nn.Sequential(nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim), nn.GELU())
        self.linear2 = nn.Sequential(nn.Linear(hidden_dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        side = math.isqrt(x.shape[1])
        image = self.linear1(x).unflatten(1, (side, side)).permute(0, 3, 1, 2)
        return self.linear2(self.dwconv(image).permute(0, 2, 3, 1).flatten(1, 2))


class LeWinTransformerBlock(nn.Module):
    """Pre-normalised window attention and LeFF, each with a residual; the decoder's windows are modulated first."""

    def __init__(self, dim: int, heads: int, side: int, shift: int, mlp_ratio: float, modulator: bool) -> None:
        super().__init__()
        self.side, self.shift = side, shift
        self.modulator = nn.Embedding(side * side, dim) if modulator else None
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, (side, side), heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = LeFF(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        h = w = math.isqrt(n)
        mask = shift_mask((h, w), self.side, self.shift).to(x) if self.shift else None
        branch = self.norm1(x).view(b, h, w, c)
        if self.shift:
            branch = torch.roll(branch, (-self.shift, -self.shift), (1, 2))
        windows = window_partition(branch, self.side)
        if self.modulator is not None:
            windows = windows + self.modulator.weight
        branch = window_reverse(self.attn(windows, mask), self.side, h, w)
        if self.shift:
            branch = torch.roll(branch, (self.shift, self.shift), (1, 2))
        x = x + branch.view(b, n, c)
        return x + self.mlp(self.norm2(x))


class BasicUformerLayer(nn.Module):
    """The blocks of a level."""

    def __init__(self, blocks: Sequence[LeWinTransformerBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class InputProj(nn.Module):
    """Tokens of an image: (B, dd_in, H, W) → (B, H·W, C)."""

    def __init__(self, dd_in: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.Conv2d(dd_in, dim, 3, padding=1), nn.LeakyReLU(inplace=True))

    def forward(self, image: Tensor) -> Tensor:
        return to_tokens(self.proj(image))


class OutputProj(nn.Module):
    """The image of tokens: (B, H·W, C) → (B, in_chans, H, W)."""

    def __init__(self, dim: int, in_chans: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.Conv2d(dim, in_chans, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        side = math.isqrt(x.shape[1])
        return self.proj(x.transpose(1, 2).view(len(x), -1, side, side))


class Downsample(nn.Module):
    """Halve height and width: (B, H·W, C) → (B, H·W/4, 2C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(dim, 2 * dim, 4, stride=2, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return to_tokens(self.conv(to_image(x)))


class Upsample(nn.Module):
    """Double height and width: (B, H·W, C) → (B, 4·H·W, C')."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.deconv = nn.Sequential(nn.ConvTranspose2d(dim, out_dim, 2, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        return to_tokens(self.deconv(to_image(x)))


class Uformer(nn.Module):
    """Restore a square image with a U of nine levels: (B, dd_in, H, H) → (B, in_chans, H, H).

    Argument and module names are the released checkpoints'. Levels whose maps were no larger than a window at
    `img_size` never shift their windows.
    """

    def __init__(
        self,
        img_size: int = 128,
        in_chans: int = 3,
        dd_in: int = 3,
        embed_dim: int = 32,
        depths: Sequence[int] = (2, 2, 2, 2, 2, 2, 2, 2, 2),
        num_heads: Sequence[int] = (1, 2, 4, 8, 16, 16, 8, 4, 2),
        win_size: int = 8,
        mlp_ratio: float = 4.0,
        modulator: bool = False,
        shift_flag: bool = True,
    ) -> None:
        super().__init__()
        self.dd_in = dd_in

        def level(index: int, dim: int) -> BasicUformerLayer:
            halvings = min(index, 8 - index)
            shifts = shift_flag and img_size >> halvings > win_size
            return BasicUformerLayer(
                [
                    LeWinTransformerBlock(
                        dim,
                        num_heads[index],
                        win_size,
                        win_size // 2 if shifts and number % 2 else 0,
                        mlp_ratio,
                        modulator and index > 4,
                    )
                    for number in range(depths[index])
                ]
            )

        dims = [embed_dim << index for index in range(5)]
        self.input_proj = InputProj(dd_in, embed_dim)
        self.output_proj = OutputProj(2 * embed_dim, in_chans)
        self.encoderlayer_0 = level(0, dims[0])
        self.dowsample_0 = Downsample(dims[0])
        self.encoderlayer_1 = level(1, dims[1])
        self.dowsample_1 = Downsample(dims[1])
        self.encoderlayer_2 = level(2, dims[2])
        self.dowsample_2 = Downsample(dims[2])
        self.encoderlayer_3 = level(3, dims[3])
        self.dowsample_3 = Downsample(dims[3])
        self.conv = level(4, dims[4])
        self.upsample_0 = Upsample(dims[4], dims[3])
        self.decoderlayer_0 = level(5, dims[4])
        self.upsample_1 = Upsample(dims[4], dims[2])
        self.decoderlayer_1 = level(6, dims[3])
        self.upsample_2 = Upsample(dims[3], dims[1])
        self.decoderlayer_2 = level(7, dims[2])
        self.upsample_3 = Upsample(dims[2], dims[0])
        self.decoderlayer_3 = level(8, dims[1])

    def forward(self, image: Tensor) -> Tensor:
        encoded0 = self.encoderlayer_0(self.input_proj(image))
        encoded1 = self.encoderlayer_1(self.dowsample_0(encoded0))
        encoded2 = self.encoderlayer_2(self.dowsample_1(encoded1))
        encoded3 = self.encoderlayer_3(self.dowsample_2(encoded2))
        x = self.conv(self.dowsample_3(encoded3))
        x = self.decoderlayer_0(torch.cat([self.upsample_0(x), encoded3], dim=-1))
        x = self.decoderlayer_1(torch.cat([self.upsample_1(x), encoded2], dim=-1))
        x = self.decoderlayer_2(torch.cat([self.upsample_2(x), encoded1], dim=-1))
        x = self.decoderlayer_3(torch.cat([self.upsample_3(x), encoded0], dim=-1))
        result = self.output_proj(x)
        return image + result if self.dd_in == 3 else result
