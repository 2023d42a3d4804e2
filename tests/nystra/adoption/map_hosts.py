"""Small networks with attention over whole maps, to other tokens' keys, or of another kind; maps are (B, C, H, W)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nystra.adoption.window_hosts import maps_of, offsets_of, windows_of


class Tokens(nn.Module):
    """Calls a module with the tokens of a map, (B, H·W, C), and adds its result."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, image: Tensor) -> Tensor:
        return image + self.inner(image.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, image.shape[2:])


class Baddbmm(nn.Module):
    """Attention of diffusion models' UNets: images and heads in one axis, the scale in the product."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (channels // heads) ** -0.5
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels, bias=False) for _ in range(3))

    def split(self, tokens):
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2).flatten(0, 1)

    def forward(self, x):
        q, k, v = self.split(self.to_q(x)), self.split(self.to_k(x)), self.split(self.to_v(x))
        start = torch.empty(len(q), q.shape[1], k.shape[1], dtype=q.dtype, device=q.device)
        scores = torch.baddbmm(start, q, k.transpose(-1, -2), beta=0, alpha=self.scale)
        probabilities = scores.softmax(dim=-1).to(q.dtype)
        return torch.bmm(probabilities, v).unflatten(0, (-1, self.heads)).transpose(1, 2).flatten(2)


class TransposedWeights(nn.Module):
    """Attention of autoencoders of diffusion models: channels first, values times transposed weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x):
        b, c, h, w = x.shape
        q = self.q(x).reshape(b, c, h * w).permute(0, 2, 1)
        weights = torch.bmm(q, self.k(x).reshape(b, c, h * w)) * (int(c) ** (-0.5))
        weights = torch.nn.functional.softmax(weights, dim=2)
        attended = torch.bmm(self.v(x).reshape(b, c, h * w), weights.permute(0, 2, 1))
        return x + self.proj_out(attended.reshape(b, c, h, w))


class MultiHead(nn.Module):
    """torch's own module, whose weights are asked for or not, and used or not."""

    def __init__(self, channels: int, heads: int, **options: bool) -> None:
        super().__init__()
        self.attention, self.options = nn.MultiheadAttention(channels, heads, batch_first=True), options

    def forward(self, x):
        attended, _ = self.attention(x, x, x, **self.options)
        return attended


class OverlappingKeys(nn.Module):
    """HAT's attention across windows: keys from larger windows that overlap, bias from a table of all offsets."""

    def __init__(self, channels: int, heads: int, side: int) -> None:
        super().__init__()
        self.side, self.heads, self.scale = side, heads, (channels // heads) ** -0.5
        self.qkv, self.overlap = nn.Linear(channels, 3 * channels), side // 2
        self.table = nn.Parameter(torch.randn((2 * side + self.overlap - 1) ** 2, heads) / 2)

    def forward(self, image):
        maps, side, overlap = image.permute(0, 2, 3, 1), self.side, self.overlap
        q, keys, values = self.qkv(maps).chunk(3, dim=-1)
        large = side + overlap
        kv = F.unfold(
            torch.cat([keys, values], -1).permute(0, 3, 1, 2), kernel_size=large, stride=side, padding=overlap // 2
        )
        k, v = kv.unflatten(1, (2, self.heads, -1, large**2)).permute(1, 0, 5, 2, 4, 3).flatten(1, 2)
        q = windows_of(q, side, side).unflatten(2, (self.heads, -1)).transpose(1, 2) * self.scale
        rows = torch.arange(side)[:, None] - torch.arange(large) + large - 1
        index = rows[:, None, :, None] * (side + large - 1) + rows[None, :, None, :]
        bias = self.table[index.flatten()].view(side**2, large**2, -1).permute(2, 0, 1)
        attn = torch.softmax(q @ k.transpose(-2, -1) + bias, dim=-1)
        return image + maps_of((attn @ v).transpose(1, 2).flatten(2), side, side, maps).permute(0, 3, 1, 2)


class PermutedKeys(nn.Module):
    """SRFormer's: four neighbouring tokens are one key of fewer channels in more heads' worth of tokens."""

    def __init__(self, channels: int, heads: int, side: int) -> None:
        super().__init__()
        self.side, self.num_heads, self.scale = side, heads, (channels // heads) ** -0.5
        self.q, self.kv = nn.Linear(channels, channels), nn.Linear(channels, channels // 2)
        self.table = nn.Parameter(torch.randn((side - 1) ** 2, heads) / 2)

    def forward(self, image):
        maps, side, half = image.permute(0, 2, 3, 1), self.side, self.side // 2
        x = windows_of(maps, side, side)
        kv = self.kv(x).unflatten(2, (2, -1)).unflatten(1, (half, 2, half, 2))
        k, v = (
            kv.permute(5, 0, 1, 3, 2, 4, 6).flatten(4).flatten(2, 3).unflatten(3, (self.num_heads, -1)).transpose(2, 3)
        )
        q = self.q(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2) * self.scale
        bias = self.table[offsets_of(half, half).view(-1)].view(half**2, half**2, -1).permute(2, 0, 1)
        aligned = bias.unflatten(1, (half, half)).repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1, 2)
        attn = (q @ k.transpose(-2, -1) + aligned.unsqueeze(0)).softmax(-1)
        return image + maps_of((attn @ v).transpose(1, 2).flatten(2), side, side, maps).permute(0, 3, 1, 2)


class Dictionary(nn.Module):
    """ATD's: few learned keys for all tokens, scaled by key; the weights are used otherwise, too, or not."""

    def __init__(self, channels: int, count: int, *, used: bool) -> None:
        super().__init__()
        self.wq, self.wk, self.wv = nn.Linear(channels, 6), nn.Linear(channels, 6), nn.Linear(channels, channels)
        self.entries, self.scale = nn.Parameter(torch.randn(1, count, channels)), nn.Parameter(torch.rand(count))
        self.used = used

    def forward(self, x):
        entries = self.entries.expand(len(x), -1, -1)
        attn = F.normalize(self.wq(x), dim=-1) @ F.normalize(self.wk(entries), dim=-1).transpose(-2, -1)
        attn = (attn * (1 + self.scale.clamp(0, 1) * math.log(len(self.scale)))).softmax(dim=-1)
        attended = (attn @ self.wv(entries)).reshape(x.shape)
        return attended + attn.amax(-1, keepdim=True) if self.used else attended


class ChannelAttention(nn.Module):
    """Restormer's: attention of channels to channels, which must be left alone."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.qkv = heads, nn.Conv2d(channels, 3 * channels, 1)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))

    def forward(self, x):
        q, k, v = self.qkv(x).flatten(2).unflatten(1, (3, self.num_heads, -1)).unbind(1)
        attn = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)) * self.temperature
        return x + (attn.softmax(dim=-1) @ v).flatten(1, 2).unflatten(2, x.shape[2:])


class NoSoftmax(nn.Module):
    """HiT-SR's: products of queries, keys and values without a softmax."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return (q @ k.transpose(-2, -1) / x.shape[1]) @ v


class PatchTokens(nn.Module):
    """Calls modules with the tokens of a map's patches, others before and behind them, and puts the map together."""

    def __init__(self, layers: list[nn.Module], channels: int, before: int, after: int) -> None:
        super().__init__()
        self.embedding, self.layers = nn.Conv2d(channels, channels, 2, 2), nn.ModuleList(layers)
        self.before, self.after = (nn.Parameter(torch.randn(1, count, channels)) for count in (before, after))

    def forward(self, image: Tensor) -> Tensor:
        patches = self.embedding(image)
        before, after = (each.expand(len(image), -1, -1) for each in (self.before, self.after))
        tokens = torch.cat([before, patches.flatten(2).transpose(1, 2)], dim=1)
        tokens = torch.cat((tokens, after), 1) if after.shape[1] else tokens
        for layer in self.layers:
            tokens = tokens + layer(tokens)
        inside = tokens[:, before.shape[1] : tokens.shape[1] - after.shape[1]]
        return F.interpolate(inside.transpose(1, 2).unflatten(2, patches.shape[2:]), scale_factor=2.0)


class Modulated(nn.Module):
    """A block of a diffusion transformer: its condition, of the time, shifts and scales what is attended."""

    def __init__(self, attention: nn.Module, channels: int) -> None:
        super().__init__()
        self.attention, self.norm = attention, nn.LayerNorm(channels, elementwise_affine=False)
        self.modulation = nn.Linear(channels, 3 * channels)

    def forward(self, x):
        shift, scale, gate = self.modulation(F.silu(x[:, :1])).chunk(3, dim=-1)
        return gate * self.attention(self.norm(x) * (1 + scale) + shift)


class JointAttention(nn.Module):
    """Stable Diffusion 3's: projections of their own for the tokens of the image and of the text, one attention."""

    def __init__(self, channels: int, heads: int, text: int) -> None:
        super().__init__()
        self.heads, self.text = heads, nn.Parameter(torch.randn(1, text, channels))
        self.of_image, self.of_text = nn.Linear(channels, 3 * channels), nn.Linear(channels, 3 * channels)

    def forward(self, x):
        parts = (self.of_image(x), self.of_text(self.text.expand(len(x), -1, -1)))
        joint = [part.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4) for part in parts]
        q, k, v = (torch.cat([image, text], dim=2) for image, text in zip(*joint, strict=True))
        return F.scaled_dot_product_attention(q, k, v)[:, :, : x.shape[1]].transpose(1, 2).flatten(2)


class PairsBesideTokens(nn.Module):
    """BEiT's: a bias of offsets between patches, and numbers of its own for pairs with the class token."""

    def __init__(self, channels: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads, self.qkv = heads, nn.Linear(channels, 3 * channels)
        offsets = (2 * side - 1) ** 2
        self.relative_position_bias_table = nn.Parameter(torch.randn(offsets + 3, heads) / 2)
        index = torch.zeros(side**2 + 1, side**2 + 1, dtype=torch.long)
        index[1:, 1:] = offsets_of(side, side)
        index[0], index[:, 0], index[0, 0] = offsets, offsets + 1, offsets + 2
        self.register_buffer("index", index)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.index].permute(2, 0, 1)
        attn = (q / q.shape[-1] ** 0.5) @ k.transpose(-2, -1) + bias.unsqueeze(0)
        return (attn.softmax(-1) @ v).transpose(1, 2).flatten(2)
