"""MST as published, in the published order of computation (Cai et al., CVPR 2022), with its real-data and RGB forms.

Written from the paper's equations and the released checkpoints' key and shape lists, and checked against
outputs of the official code. Attention works on channels-last maps (B, H, W, C), the convolutions on NCHW.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def shift_back(x: Tensor, step: int = 2) -> Tensor:
    """Undo the dispersion of a CASSI mask: channel i reads columns from int(i · step / (256 // H)²) on.

    A feature map of a deeper level has fewer rows than the detector's 256, and dispersion shrinks with them.

    Args:
        x: dispersed maps, shape (B, C, H, W), with W at least H plus the last channel's shift.
        step: pixels of dispersion per channel at 256 rows.

    Returns:
        Shape (B, C, H, H).
    """
    rows = x.shape[2]
    scaled_step = step / (256 // rows) ** 2
    starts = [int(scaled_step * i) for i in range(x.shape[1])]
    return torch.stack([x[:, i, :, start : start + rows] for i, start in enumerate(starts)], dim=1)


class MaskAttention(nn.Module):
    """Turn mask features into weights for V, the RGB form without dispersion: (B, C, H, W) → (B, C, H, W)."""

    def __init__(self, n_feat: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_feat, n_feat, 1)
        self.conv2 = nn.Conv2d(n_feat, n_feat, 1)
        self.depth_conv = nn.Conv2d(n_feat, n_feat, 5, padding=2, groups=n_feat)

    def forward(self, mask: Tensor) -> Tensor:
        features = self.conv1(mask)
        weight = torch.sigmoid(self.depth_conv(self.conv2(features)))
        return features * weight + features


class DispersedMaskAttention(MaskAttention):
    """Turn a dispersed CASSI mask's features into weights for V: (B, C, H, H + shift) → (B, C, H, H)."""

    def forward(self, mask: Tensor) -> Tensor:
        return shift_back(super().forward(mask))


class MSMSA(nn.Module):
    """Spectral-wise multi-head self-attention with a positional branch, mask-guided or not: (B, H, W, C) → same.

    The mask comes as (B, H, W + shift, C); the weights of its first entry serve the whole batch.
    """

    def __init__(
        self, dim: int, dim_head: int, heads: int, mask_attention: Callable[[int], nn.Module] | None = None
    ) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim_head * heads, bias=False)
        self.to_k = nn.Linear(dim, dim_head * heads, bias=False)
        self.to_v = nn.Linear(dim, dim_head * heads, bias=False)
        self.rescale = nn.Parameter(torch.ones(heads, 1, 1))
        self.proj = nn.Linear(dim_head * heads, dim)
        self.pos_emb = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False),
            nn.GELU(),
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False),
        )
        if mask_attention is not None:
            self.mm = mask_attention(dim)

    def split_heads(self, tokens: Tensor) -> Tensor:
        """(B, HW, C) → (B, heads, HW, C / heads)."""
        b, n, c = tokens.shape
        return tokens.reshape(b, n, self.heads, c // self.heads).permute(0, 2, 1, 3)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        b, h, w, c = x.shape
        tokens = x.reshape(b, h * w, c)
        v_tokens = self.to_v(tokens)
        q = self.split_heads(self.to_q(tokens))
        k = self.split_heads(self.to_k(tokens))
        v = self.split_heads(v_tokens)
        if mask is not None:
            weights = self.mm(mask.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            weights = weights[0].expand(b, h, w, c)
            v = v * self.split_heads(weights.flatten(1, 2))
        q = F.normalize(q.transpose(-2, -1), dim=-1)
        k = F.normalize(k.transpose(-2, -1), dim=-1)
        attention = (k @ q.transpose(-2, -1) * self.rescale).softmax(dim=-1)
        mixed = (attention @ v.transpose(-2, -1)).permute(0, 3, 1, 2).reshape(b, h * w, c)
        content = self.proj(mixed).reshape(b, h, w, c)
        position = self.pos_emb(v_tokens.reshape(b, h, w, c).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return content + position


class FeedForward(nn.Module):
    """Two 1×1 convolutions around a 3×3 depth-wise one: (B, H, W, C) → (B, H, W, C)."""

    def __init__(self, dim: int, mult: int = 4) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(dim, mult * dim, 1, bias=False),
            nn.GELU(),
            nn.Conv2d(mult * dim, mult * dim, 3, padding=1, groups=mult * dim, bias=False),
            nn.GELU(),
            nn.Conv2d(mult * dim, dim, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class PreNorm(nn.Module):
    """LayerNorm over the last dimension, then `fn`."""

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class SpectralBlocks(nn.Module):
    """A run of blocks, each x + attention(x) and then x + feed_forward(LN(x)): (B, C, H, W) → (B, C, H, W)."""

    def __init__(
        self, dim: int, dim_head: int, num_blocks: int, mask_attention: Callable[[int], nn.Module] | None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for _ in range(num_blocks):
            attention = MSMSA(dim, dim_head, dim // dim_head, mask_attention)
            self.blocks.append(nn.ModuleList([attention, PreNorm(dim, FeedForward(dim))]))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        if mask is not None:
            mask = mask.permute(0, 2, 3, 1)
        for attention, feed_forward in self.blocks:
            x = attention(x, mask) + x
            x = feed_forward(x) + x
        return x.permute(0, 3, 1, 2)


class SpectralUNet(nn.Module):
    """The U-shaped body that every form of MST shares.

    A base class and not a member, because the released keys of encoder and decoder have no prefix;
    the levels are added by a call, because the released keys of the embedding come before them.
    """

    def add_levels(
        self, dim: int, stage: int, num_blocks: Sequence[int], mask_attention: Callable[[int], nn.Module] | None = None
    ) -> None:
        """Register `stage` levels of encoder and decoder and the bottleneck, with heads of `dim` channels."""
        width = dim
        self.encoder_layers = nn.ModuleList()
        for i in range(stage):
            layers = nn.ModuleList([SpectralBlocks(width, dim, num_blocks[i], mask_attention)])
            for _ in range(1 if mask_attention is None else 2):
                layers.append(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False))
            self.encoder_layers.append(layers)
            width *= 2
        self.bottleneck = SpectralBlocks(width, dim, num_blocks[-1], mask_attention)
        self.decoder_layers = nn.ModuleList()
        for i in reversed(range(stage)):
            up = nn.ConvTranspose2d(width, width // 2, 2, stride=2)
            fuse = nn.Conv2d(width, width // 2, 1, bias=False)
            blocks = SpectralBlocks(width // 2, dim, num_blocks[i], mask_attention)
            self.decoder_layers.append(nn.ModuleList([up, fuse, blocks]))
            width //= 2

    def encode_decode(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (B, C, H, W) and, with mask guidance, mask features → features (B, C, H, W)."""
        skips = []
        for blocks, down, *mask_down in self.encoder_layers:
            x = blocks(x, mask)
            skips.append((x, mask))
            x = down(x)
            if mask is not None:
                mask = mask_down[0](mask)
        x = self.bottleneck(x, mask)
        for up, fuse, blocks in self.decoder_layers:
            skip, mask = skips.pop()
            x = fuse(torch.cat([up(x), skip], dim=1))
            x = blocks(x, mask)
        return x


class MST(SpectralUNet):
    """CASSI reconstruction guided by the mask: (B, 28, H, H) and mask (1, 28, H, H + 54) → (B, 28, H, H).

    MST-S, -M and -L have `stage` 2 and `num_blocks` (2, 2, 2), (2, 4, 4) and (4, 7, 5). Without a mask, one of
    zeros for 256 rows stands in.
    """

    def __init__(self, dim: int = 28, stage: int = 3, num_blocks: Sequence[int] = (2, 2, 2)) -> None:
        super().__init__()
        self.embedding = nn.Conv2d(28, dim, 3, padding=1, bias=False)
        self.add_levels(dim, stage, num_blocks, DispersedMaskAttention)
        self.mapping = nn.Conv2d(dim, 28, 3, padding=1, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            mask = x.new_zeros(1, 28, 256, 310)
        features = F.leaky_relu(self.embedding(x), 0.1)
        return self.mapping(self.encode_decode(features, mask)) + x


class RealMST(SpectralUNet):
    """CASSI reconstruction from the real camera's measurement, without a mask: (B, H, W + 54) → (B, 28, H, W).

    `fution` is the released checkpoints' spelling.
    """

    def __init__(self, dim: int = 28, stage: int = 3, num_blocks: Sequence[int] = (2, 2, 2)) -> None:
        super().__init__()
        self.embedding = nn.Conv2d(28, dim, 3, padding=1, bias=False)
        self.fution = nn.Conv2d(28, 28, 3, padding=1, bias=False)
        self.add_levels(dim, stage, num_blocks)
        self.mapping = nn.Conv2d(dim, 28, 3, padding=1, bias=False)

    def forward(self, measurement: Tensor) -> Tensor:
        width = measurement.shape[2] - 2 * 27
        x = self.fution(torch.stack([measurement[:, :, 2 * i : 2 * i + width] for i in range(28)], dim=1))
        features = F.leaky_relu(self.embedding(x), 0.1)
        return self.mapping(self.encode_decode(features)) + x


class RGBMST(SpectralUNet):
    """MST as the baseline of the MST++ repository: RGB (B, 3, H, W) → (B, 31, H, W), a second embedding as mask."""

    def __init__(self, dim: int, stage: int, num_blocks: Sequence[int]) -> None:
        super().__init__()
        self.embedding_1 = nn.Conv2d(3, dim, 3, padding=1, bias=False)
        self.embedding_2 = nn.Conv2d(3, dim, 3, padding=1, bias=False)
        self.add_levels(dim, stage, num_blocks, MaskAttention)
        self.mapping = nn.Conv2d(dim, 31, 3, padding=1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        image = F.pad(image, (0, -width % 8, 0, -height % 8), mode="reflect")
        mask = F.leaky_relu(self.embedding_1(image), 0.1)
        x = F.leaky_relu(self.embedding_2(image), 0.1)
        out = self.mapping(self.encode_decode(x, mask)) + x
        return out[:, :, :height, :width]
