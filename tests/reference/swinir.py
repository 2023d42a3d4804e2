"""SwinIR as published, in the published order of computation (Liang et al., ICCVW 2021), for super-resolution.

Written from the paper and the released checkpoints' key and shape lists, and checked against outputs of the official
code. Tokens (B, H·W, C) become images for every convolution and windows for every attention; images of another size
than `img_size` get their masks at every call.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEAN = (0.4488, 0.4371, 0.4040)


def window_partition(x: Tensor, side: int) -> Tensor:
    """Cut maps (B, H, W, C) into windows (B·windows, side², C)."""
    b, h, w, c = x.shape
    x = x.view(b, h // side, side, w // side, side, c).permute(0, 1, 3, 2, 4, 5).contiguous()
    return x.view(-1, side * side, c)


def window_reverse(windows: Tensor, side: int, h: int, w: int) -> Tensor:
    """Put windows (B·windows, side², C) together: (B, H, W, C)."""
    x = windows.view(-1, h // side, w // side, side, side, windows.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, h, w, windows.shape[-1])


def shift_mask(size: tuple[int, int], side: int, shift: int) -> Tensor:
    """Mask (windows, side², side²) of a rolled map: -100 between tokens of different regions of it, else 0."""
    regions = torch.zeros(1, *size, 1)
    # Without a shift the third part is the whole axis, so that there is one region.
    parts = (slice(0, -side), slice(-side, -shift), slice(-shift, None))
    for row, rows in enumerate(parts):
        for column, columns in enumerate(parts):
            regions[:, rows, columns] = 3 * row + column
    windows = window_partition(regions, side).squeeze(-1)
    difference = windows.unsqueeze(1) - windows.unsqueeze(2)
    return difference.masked_fill(difference != 0, -100.0).masked_fill(difference == 0, 0.0)


def position_index(height: int, width: int) -> Tensor:
    """Row of the bias table for every query and key of a window: (N, N)."""
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    offsets = places.unsqueeze(1) - places.unsqueeze(0)
    return (offsets[..., 0] + height - 1) * (2 * width - 1) + offsets[..., 1] + width - 1


class WindowAttention(nn.Module):
    """Attention with a table of relative position biases, all logits written: (windows, N, C) → (windows, N, C)."""

    def __init__(self, dim: int, window_size: Sequence[int], num_heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        height, width = window_size
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * height - 1) * (2 * width - 1), num_heads))
        self.register_buffer("relative_position_index", position_index(height, width))
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
        logits = (q * self.scale) @ k.transpose(-2, -1)
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        logits = logits + bias.view(n, n, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        if mask is not None:
            logits = logits.view(-1, len(mask), self.num_heads, n, n) + mask.unsqueeze(1).unsqueeze(0)
            logits = logits.view(-1, self.num_heads, n, n)
        x = (logits.softmax(dim=-1) @ v).transpose(1, 2).reshape(b, n, c)
        return self.proj(x)


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class SwinTransformerBlock(nn.Module):
    """Pre-normalised window attention and feed-forward, each with a residual: (B, H·W, C) → (B, H·W, C)."""

    def __init__(
        self, dim: int, resolution: tuple[int, int], heads: int, side: int, shift: int, mlp_ratio: float, qkv_bias: bool
    ) -> None:
        super().__init__()
        self.resolution, self.side, self.shift = resolution, side, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, (side, side), heads, qkv_bias)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.register_buffer("attn_mask", shift_mask(resolution, side, shift) if shift else None)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        b, _, c = x.shape
        h, w = size
        branch = self.norm1(x).view(b, h, w, c)
        if self.shift:
            branch = torch.roll(branch, (-self.shift, -self.shift), (1, 2))
        windows = window_partition(branch, self.side)
        mask = self.attn_mask if size == self.resolution else shift_mask(size, self.side, self.shift).to(x)
        branch = window_reverse(self.attn(windows, mask), self.side, h, w)
        if self.shift:
            branch = torch.roll(branch, (self.shift, self.shift), (1, 2))
        x = x + branch.view(b, h * w, c)
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Make tokens of an image, (B, C, H, W) → (B, H·W, C), normalised where there is a norm."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.norm = None if dim is None else nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        return x if self.norm is None else self.norm(x)


class PatchUnEmbed(nn.Module):
    """Make an image of tokens: (B, H·W, C) → (B, C, H, W)."""

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return x.transpose(1, 2).view(len(x), -1, *size)


class BasicLayer(nn.Module):
    """The blocks of a residual group, every second of which shifts its windows."""

    def __init__(self, blocks: Sequence[SwinTransformerBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        for block in self.blocks:
            x = block(x, size)
        return x


class RSTB(nn.Module):
    """Residual Swin transformer block: blocks, and a convolution of the image that their tokens make."""

    def __init__(self, dim: int, blocks: Sequence[SwinTransformerBlock]) -> None:
        super().__init__()
        self.residual_group = BasicLayer(blocks)
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)
        self.patch_embed = PatchEmbed()
        self.patch_unembed = PatchUnEmbed()

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return self.patch_embed(self.conv(self.patch_unembed(self.residual_group(x, size), size))) + x


class SwinIR(nn.Module):
    """Enlarge an image: (B, in_chans, H, W) → (B, in_chans, upscale·H, upscale·W).

    Argument and module names are the released checkpoints'. `upsampler` is "pixelshuffle" (upscale 2ⁿ) or
    "pixelshuffledirect"; the training images of `img_size` are larger than a window.
    """

    def __init__(
        self,
        img_size: int = 64,
        in_chans: int = 3,
        embed_dim: int = 96,
        depths: Sequence[int] = (6, 6, 6, 6),
        num_heads: Sequence[int] = (6, 6, 6, 6),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        upscale: int = 2,
        img_range: float = 1.0,
        upsampler: str = "pixelshuffle",
    ) -> None:
        super().__init__()
        self.window_size, self.upscale, self.img_range, self.upsampler = window_size, upscale, img_range, upsampler
        self.mean = torch.tensor(MEAN).view(1, 3, 1, 1)
        self.conv_first = nn.Conv2d(in_chans, embed_dim, 3, padding=1)
        self.patch_embed = PatchEmbed(embed_dim)
        self.patch_unembed = PatchUnEmbed()

        def block(index: int, heads: int) -> SwinTransformerBlock:
            shift = window_size // 2 if index % 2 else 0
            size = (img_size, img_size)
            return SwinTransformerBlock(embed_dim, size, heads, window_size, shift, mlp_ratio, qkv_bias)

        self.layers = nn.ModuleList(
            RSTB(embed_dim, [block(index, heads) for index in range(depth)])
            for depth, heads in zip(depths, num_heads, strict=True)
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.conv_after_body = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)
        if upsampler == "pixelshuffle":
            self.conv_before_upsample = nn.Sequential(
                nn.Conv2d(embed_dim, 64, 3, padding=1), nn.LeakyReLU(inplace=True)
            )
            steps = [(nn.Conv2d(64, 256, 3, padding=1), nn.PixelShuffle(2)) for _ in range(upscale.bit_length() - 1)]
            self.upsample = nn.Sequential(*(layer for step in steps for layer in step))
            self.conv_last = nn.Conv2d(64, in_chans, 3, padding=1)
        else:
            last = nn.Conv2d(embed_dim, upscale**2 * in_chans, 3, padding=1)
            self.upsample = nn.Sequential(last, nn.PixelShuffle(upscale))

    def forward(self, image: Tensor) -> Tensor:
        h, w = image.shape[2:]
        image = F.pad(image, (0, -w % self.window_size, 0, -h % self.window_size), mode="reflect")
        mean = self.mean.to(image)
        shallow = self.conv_first((image - mean) * self.img_range)
        x = self.conv_after_body(self.features(shallow)) + shallow
        if self.upsampler == "pixelshuffle":
            x = self.conv_last(self.upsample(self.conv_before_upsample(x)))
        else:
            x = self.upsample(x)
        x = x / self.img_range + mean
        return x[:, :, : h * self.upscale, : w * self.upscale]

    def features(self, x: Tensor) -> Tensor:
        size = (x.shape[2], x.shape[3])
        x = self.patch_embed(x)
        for layer in self.layers:
            x = layer(x, size)
        return self.patch_unembed(self.norm(x), size)
