"""DehazeFormer as published, in the published order of computation (Song et al., TIP 2023).

Written from the paper's equations and the released checkpoints' key and shape lists, and checked against outputs of
the official code. Features are NCHW images; windows are cut from a permuted view of them, padded by reflection.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.reference.swinir import window_partition, window_reverse


class RLN(nn.Module):
    """Rescale layer norm, over channels and pixels: (B, C, H, W) → the same, and rescale and rebias (B, C, 1, 1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dim, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, dim, 1, 1))
        self.meta1 = nn.Conv2d(1, dim, 1)
        self.meta2 = nn.Conv2d(1, dim, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        std = torch.sqrt((x - mean).pow(2).mean(dim=(1, 2, 3), keepdim=True) + 1e-5)
        normalised = (x - mean) / std
        return normalised * self.weight + self.bias, self.meta1(std), self.meta2(mean)


class Mlp(nn.Module):
    """1×1 convolution, ReLU, 1×1 convolution."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(dim, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


class WindowAttention(nn.Module):
    """Attention whose bias a network makes at every call: queries, keys, values (windows, N, 3C) → (windows, N, C)."""

    def __init__(self, dim: int, window_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        places = torch.cartesian_prod(torch.arange(window_size), torch.arange(window_size))
        offsets = (places.unsqueeze(1) - places.unsqueeze(0)).float()
        self.register_buffer("relative_positions", torch.sign(offsets) * torch.log(1 + offsets.abs()))
        self.meta = nn.Sequential(nn.Linear(2, 256), nn.ReLU(inplace=True), nn.Linear(256, num_heads))

    def forward(self, qkv: Tensor) -> Tensor:
        b, n, c = qkv.shape
        q, k, v = qkv.reshape(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        logits = (q * self.scale) @ k.transpose(-2, -1)
        bias = self.meta(self.relative_positions).permute(2, 0, 1).contiguous()
        weights = (logits + bias.unsqueeze(0)).softmax(dim=-1)
        return (weights @ v).transpose(1, 2).reshape(b, n, c // 3)


class Attention(nn.Module):
    """Window attention and a convolution of the same values, or one of them: (B, C, H, W) → (B, C, H, W)."""

    def __init__(
        self, dim: int, num_heads: int, window_size: int, shift: int, use_attn: bool, conv_type: str | None
    ) -> None:
        super().__init__()
        self.window_size, self.shift, self.use_attn, self.conv_type = window_size, shift, use_attn, conv_type
        if conv_type == "Conv":
            self.conv = nn.Sequential(
                nn.Conv2d(dim, dim, 3, padding=1, padding_mode="reflect"),
                nn.ReLU(inplace=True),
                nn.Conv2d(dim, dim, 3, padding=1, padding_mode="reflect"),
            )
        if conv_type == "DWConv":
            self.conv = nn.Conv2d(dim, dim, 5, padding=2, groups=dim, padding_mode="reflect")
        if conv_type == "DWConv" or use_attn:
            self.V = nn.Conv2d(dim, dim, 1)
            self.proj = nn.Conv2d(dim, dim, 1)
        if use_attn:
            self.QK = nn.Conv2d(dim, 2 * dim, 1)
            self.attn = WindowAttention(dim, window_size, num_heads)

    def forward(self, x: Tensor) -> Tensor:
        if not self.use_attn:
            return self.conv(x) if self.conv_type == "Conv" else self.proj(self.conv(self.V(x)))
        value = self.V(x)
        attended = self.attend(torch.cat([self.QK(x), value], dim=1))
        if self.conv_type is None:
            return self.proj(attended)
        return self.proj(self.conv(value) + attended)

    def attend(self, qkv: Tensor) -> Tensor:
        h, w = qkv.shape[2:]
        before = self.shift
        after = [-(before + length) % self.window_size for length in (h, w)]
        padded = F.pad(qkv, (before, after[1], before, after[0]), mode="reflect")
        sides = padded.shape[2:]
        windows = window_partition(padded.permute(0, 2, 3, 1), self.window_size)
        out = window_reverse(self.attn(windows), self.window_size, sides[0], sides[1])
        return out[:, before : before + h, before : before + w].permute(0, 3, 1, 2)


class TransformerBlock(nn.Module):
    """Attention, rescaled and rebiased where there is one, and feed-forward, each with a residual."""

    def __init__(self, dim: int, mlp_ratio: float, attention: Attention) -> None:
        super().__init__()
        self.norm1 = RLN(dim) if attention.use_attn else None
        self.attn = attention
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        if self.norm1 is None:
            x = x + self.attn(x)
        else:
            normalised, rescale, rebias = self.norm1(x)
            x = x + (self.attn(normalised) * rescale + rebias)
        return x + self.mlp(x)


class BasicLayer(nn.Module):
    """The blocks of a level; the last ones attend, every second of them in shifted windows."""

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        window_size: int,
        attn_ratio: float,
        conv_type: str | None,
    ) -> None:
        super().__init__()

        def attention(index: int) -> Attention:
            shift = window_size // 2 if index % 2 else 0
            attends = index >= depth - attn_ratio * depth
            return Attention(dim, num_heads, window_size, shift, attends, conv_type)

        self.blocks = nn.ModuleList(TransformerBlock(dim, mlp_ratio, attention(index)) for index in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class SKFusion(nn.Module):
    """Fuse `height` images (B, C, H, W), stacked, by weights of their channels."""

    def __init__(self, dim: int, height: int = 2, reduction: int = 8) -> None:
        super().__init__()
        self.height = height
        hidden = max(dim // reduction, 4)
        self.mlp = nn.Sequential(
            nn.Conv2d(dim, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, dim * height, 1, bias=False)
        )

    def forward(self, *images: Tensor) -> Tensor:
        b, c, h, w = images[0].shape
        stacked = torch.cat(images, dim=1).view(b, self.height, c, h, w)
        weights = self.mlp(F.adaptive_avg_pool2d(stacked.sum(dim=1), 1)).view(b, self.height, c, 1, 1)
        return (stacked * weights.softmax(dim=1)).sum(dim=1)


def projection(*layers: nn.Module) -> nn.Module:
    """Layers under the name `proj`."""
    return nn.Sequential(OrderedDict(proj=layers[0] if len(layers) == 1 else nn.Sequential(*layers)))


class DehazeFormer(nn.Module):
    """Restore an image of range [-1, 1] with a five-level U that predicts K and B of K·x - B + x: (B, C, H, W) → same.

    Argument and module names are the released checkpoints'; defaults are DehazeFormer-B's.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_chans: int = 4,
        window_size: int = 8,
        embed_dims: Sequence[int] = (24, 48, 96, 48, 24),
        mlp_ratios: Sequence[float] = (2.0, 4.0, 4.0, 2.0, 2.0),
        depths: Sequence[int] = (16, 16, 16, 8, 8),
        num_heads: Sequence[int] = (2, 4, 6, 1, 1),
        attn_ratio: Sequence[float] = (0.25, 0.5, 0.75, 0, 0),
        conv_type: Sequence[str | None] = ("DWConv",) * 5,
    ) -> None:
        super().__init__()

        def layer(level: int) -> BasicLayer:
            options = (values[level] for values in (embed_dims, depths, num_heads, mlp_ratios))
            return BasicLayer(*options, window_size, attn_ratio[level], conv_type[level])

        fine, middle, coarse = embed_dims[:3]
        self.patch_embed = projection(nn.Conv2d(in_chans, fine, 3, padding=1, padding_mode="reflect"))
        self.layer1 = layer(0)
        self.patch_merge1 = projection(nn.Conv2d(fine, middle, 2, stride=2))
        self.skip1 = nn.Conv2d(fine, fine, 1)
        self.layer2 = layer(1)
        self.patch_merge2 = projection(nn.Conv2d(middle, coarse, 2, stride=2))
        self.skip2 = nn.Conv2d(middle, middle, 1)
        self.layer3 = layer(2)
        self.patch_split1 = projection(nn.Conv2d(coarse, 4 * middle, 1), nn.PixelShuffle(2))
        self.fusion1 = SKFusion(middle)
        self.layer4 = layer(3)
        self.patch_split2 = projection(nn.Conv2d(middle, 4 * fine, 1), nn.PixelShuffle(2))
        self.fusion2 = SKFusion(fine)
        self.layer5 = layer(4)
        last = nn.Conv2d(fine, out_chans, 3, padding=1, padding_mode="reflect")
        self.patch_unembed = projection(last, nn.PixelShuffle(1))

    def forward(self, image: Tensor) -> Tensor:
        h, w = image.shape[2:]
        image = F.pad(image, (0, -w % 4, 0, -h % 4), mode="reflect")
        level1 = self.layer1(self.patch_embed(image))
        level2 = self.layer2(self.patch_merge1(level1))
        x = self.patch_split1(self.layer3(self.patch_merge2(level2)))
        x = self.layer4(self.fusion1(x, self.skip2(level2)) + x)
        x = self.patch_split2(x)
        x = self.layer5(self.fusion2(x, self.skip1(level1)) + x)
        factor, offset = self.patch_unembed(x).split((1, image.shape[1]), dim=1)
        return (factor * image - offset + image)[:, :, :h, :w]
