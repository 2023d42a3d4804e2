"""Small networks with window attention as the field writes it, one for each way; maps are (B, C, H, W)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def windows_of(maps: Tensor, height: int, width: int) -> Tensor:
    """(B, H, W, C) → (B·windows, height·width, C), row by row."""
    split = maps.unflatten(2, (-1, width)).unflatten(1, (-1, height))
    return split.transpose(2, 3).reshape(-1, height * width, maps.shape[-1])


def maps_of(windows: Tensor, height: int, width: int, like: Tensor) -> Tensor:
    """Undo `windows_of`, for maps of the sides of `like` (B, H, W, C)."""
    rows, columns = like.shape[1] // height, like.shape[2] // width
    split = windows.reshape(len(like), rows, columns, height, width, -1).transpose(2, 3)
    return split.reshape(len(like), like.shape[1], like.shape[2], -1)


def offsets_of(height: int, width: int) -> Tensor:
    """Numbers of offsets between tokens, (N, N)."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()])
    relative = places[:, :, None] - places[:, None, :]
    return (relative[0] + height - 1) * (2 * width - 1) + relative[1] + width - 1


def shift_mask(sides: tuple[int, int], window: tuple[int, int], shift: tuple[int, int], value: float) -> Tensor:
    """Mask of rolled maps, (windows, N, N)."""
    regions = torch.zeros(1, *sides, 1)
    count = 0
    for rows in (slice(0, -window[0]), slice(-window[0], -shift[0]), slice(-shift[0], None)):
        for columns in (slice(0, -window[1]), slice(-window[1], -shift[1]), slice(-shift[1], None)):
            regions[:, rows, columns] = count
            count += 1
    flat = windows_of(regions, *window).squeeze(2)
    apart = flat.unsqueeze(1) != flat.unsqueeze(2)
    return torch.zeros(apart.shape).masked_fill(apart, value)


class Windows(nn.Module):
    """Attention in windows: plain ones first, then rolled ones, each with a residual."""

    def __init__(self, make, window: tuple[int, int], shift: tuple[int, int], masked: float = -100.0) -> None:
        super().__init__()
        self.window, self.shift, self.masked = window, shift, masked
        self.plain, self.rolled = make(), make()

    def forward(self, image: Tensor) -> Tensor:
        maps = image.permute(0, 2, 3, 1)
        maps = maps + maps_of(self.plain(windows_of(maps, *self.window), None), *self.window, maps)
        mask = shift_mask(tuple(maps.shape[1:3]), self.window, self.shift, self.masked).to(image.dtype)
        rolled = maps.roll((-self.shift[0], -self.shift[1]), (1, 2))
        rolled = maps_of(self.rolled(windows_of(rolled, *self.window), mask), *self.window, maps)
        return (maps + rolled.roll(self.shift, (1, 2))).permute(0, 3, 1, 2)


class TableAttention(nn.Module):
    """SwinIR's: table[index], mask by a view of the windows of one image."""

    def __init__(self, channels: int, heads: int, side: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.window_size, self.num_heads, self.scale = (side, side), heads, (channels // heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.randn((2 * side - 1) ** 2, heads) / 2)
        self.register_buffer("relative_position_index", offsets_of(side, side))
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.attn_drop, self.softmax = nn.Dropout(dropout), nn.Softmax(dim=-1)

    def queries_keys_values(self, x):
        return self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)

    def bias(self, index):
        count = len(index)
        table = self.relative_position_bias_table[index.view(-1)]
        return table.view(count, count, -1).permute(2, 0, 1).contiguous()

    def forward(self, x, mask=None):
        b, n, c = x.shape
        q, k, v = self.queries_keys_values(x)
        attn = (q * self.scale) @ k.transpose(-2, -1)
        attn = attn + self.bias(self.relative_position_index).unsqueeze(0)
        if mask is not None:
            count = mask.shape[0]
            attn = attn.view(b // count, count, self.num_heads, n, n) + mask.unsqueeze(1).unsqueeze(0)
            attn = attn.view(-1, self.num_heads, n, n)
        attn = self.attn_drop(self.softmax(attn))
        return self.proj((attn @ v).transpose(1, 2).reshape(b, n, c))


class IndexArgument(TableAttention):
    """HAT's and IMDTN's: the index of the table is an argument."""

    def forward(self, x, rpi, mask=None):
        n = x.shape[1]
        q, k, v = self.queries_keys_values(x)
        attn = self.scale * torch.matmul(q, k.mT)
        attn += self.bias(rpi)[None]
        if mask is not None:
            attn = attn.reshape(-1, len(mask), self.num_heads, n, n) + mask[None, :, None]
            attn = attn.flatten(0, 1)
        attn = F.softmax(attn, -1)
        return self.proj(torch.matmul(attn, v).transpose(1, 2).flatten(2))


class GivesIndex(nn.Module):
    """Keeps the index for its attention."""

    def __init__(self, channels: int, heads: int, side: int) -> None:
        super().__init__()
        self.attn = IndexArgument(channels, heads, side)

    def forward(self, x, mask):
        return self.attn(x, rpi=self.attn.relative_position_index, mask=mask)


class CosineAttention(TableAttention):
    """Swin2SR's: normalised queries and keys, a scale for each head, 16·sigmoid of a network of offsets."""

    def __init__(self, channels: int, heads: int, side: int) -> None:
        super().__init__(channels, heads, side)
        self.logit_scale = nn.Parameter(torch.rand(heads, 1, 1) + math.log(8))
        self.cpb_mlp = nn.Sequential(nn.Linear(2, 16), nn.ReLU(inplace=True), nn.Linear(16, heads, bias=False))
        steps = torch.arange(1.0 - side, side) / side * 8
        self.offsets = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1)

    def forward(self, x, mask=None):
        b, n, c = x.shape
        q, k, v = self.queries_keys_values(x)
        attn = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        attn = attn * torch.clamp(self.logit_scale, max=math.log(100)).exp()
        coordinates = self.offsets.sign() * torch.log2(self.offsets.abs() + 1) / 3
        table = self.cpb_mlp(coordinates).view(-1, self.num_heads)
        bias = table[self.relative_position_index.view(-1)].view(n, n, -1).permute(2, 0, 1).contiguous()
        attn = attn + (16 * torch.sigmoid(bias)).unsqueeze(0)
        if mask is not None:
            attn = attn.view(b // len(mask), len(mask), self.num_heads, n, n) + mask[:, None].unsqueeze(0)
            attn = attn.view(-1, self.num_heads, n, n)
        return self.proj((self.attn_drop(self.softmax(attn)) @ v).transpose(1, 2).reshape(b, n, c))


class AddedTogether(TableAttention):
    """transformers' by fused attention: bias and mask of all windows in one tensor."""

    def forward(self, x, mask=None):
        b, n, _ = x.shape
        q, k, v = self.queries_keys_values(x)
        term = self.bias(self.relative_position_index).unsqueeze(0)
        if mask is not None:
            repeated = mask.unsqueeze(1).unsqueeze(0).expand(b // len(mask), -1, -1, -1, -1)
            term = (repeated + term).view(-1, self.num_heads, n, n)
        return self.proj(F.scaled_dot_product_attention(q, k, v, attn_mask=term).transpose(1, 2).flatten(2))


class PairBias(TableAttention):
    """FDAT's and BEiT's: a bias of every pair of tokens."""

    def __init__(self, channels: int, heads: int, side: int) -> None:
        super().__init__(channels, heads, side)
        self.pairs = nn.Parameter(torch.randn(heads, side**2, side**2) / 2)

    def forward(self, x, mask=None):
        q, k, v = self.queries_keys_values(x)
        logits = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(q.shape[-1]) + self.pairs
        if mask is not None:
            logits = logits + mask.repeat(len(x) // len(mask), 1, 1)[:, None]
        return self.proj((logits.softmax(dim=-1) @ v).permute(0, 2, 1, 3).flatten(2))


class HeadsFirst(nn.Module):
    """SCUNet's: heads before windows, masks by masked_fill."""

    def __init__(self, channels: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads, self.side, self.scale = heads, side, (channels // heads) ** -0.5
        self.embedding_layer = nn.Linear(channels, 3 * channels)
        self.relative = nn.Parameter(torch.randn(heads, 2 * side - 1, 2 * side - 1) / 2)
        self.linear = nn.Linear(channels, channels)

    def forward(self, x, mask=None):
        count = 1 if mask is None else len(mask)
        # Heads, images, windows, tokens, channels.
        qkv = self.embedding_layer(x).unflatten(2, (3 * self.heads, -1)).unflatten(0, (-1, count))
        q, k, v = qkv.permute(3, 0, 1, 2, 4).chunk(3, dim=0)
        sim = torch.einsum("hbwpc,hbwqc->hbwpq", q, k) * self.scale
        bias = self.relative.flatten(1)[:, offsets_of(self.side, self.side)]
        sim = sim + bias[:, None, None]
        if mask is not None:
            sim = sim.masked_fill_(mask[None, None] < 0, float("-inf"))
        out = torch.einsum("hbwij,hbwjc->hbwic", nn.functional.softmax(sim, dim=-1), v)
        return self.linear(out.permute(1, 2, 3, 0, 4).flatten(3).flatten(0, 1))


class OneHead(nn.Module):
    """LMLT's: windows of three axes, without an axis of heads, bias or mask."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv, self.scale = nn.Linear(channels, 3 * channels), channels**-0.5

    def forward(self, x, mask=None):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        attn = (q @ k.transpose(-2, -1)) * self.scale
        return attn.softmax(dim=-1) @ v + 0.1 * v


class GridAttention(nn.Module):
    """OmniSR's: windows and grids of tokens far apart by einsum, with an embedding as bias, or none (MobileSR)."""

    def __init__(self, channels: int, heads: int, side: int, *, bias: bool) -> None:
        super().__init__()
        self.heads, self.window_size, self.scale = heads, side, (channels // heads) ** -0.5
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.rel_pos_bias = nn.Embedding((2 * side - 1) ** 2, heads) if bias else None

    def attend(self, tokens):
        q, k, v = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in self.to_qkv(tokens).chunk(3, dim=-1))
        sim = torch.einsum("b h i d, b h j d -> b h i j", q, k) * self.scale
        if self.rel_pos_bias is not None:
            sim = sim + self.rel_pos_bias(offsets_of(self.window_size, self.window_size)).permute(2, 0, 1)
        return torch.einsum("b h i j, b h j d -> b h i d", sim.softmax(dim=-1), v).transpose(1, 2).flatten(2)

    def forward(self, image):
        side, maps = self.window_size, image.permute(0, 2, 3, 1)
        maps = maps + maps_of(self.attend(windows_of(maps, side, side)), side, side, maps)
        # Tokens of a grid: one from each of side × side parts of the map.
        b, h, w, c = maps.shape
        grid = maps.reshape(b, side, h // side, side, w // side, c).permute(0, 2, 4, 1, 3, 5)
        attended = self.attend(grid.reshape(-1, side * side, c)).reshape(grid.shape)
        return (maps + attended.permute(0, 3, 1, 4, 2, 5).reshape(maps.shape)).permute(0, 3, 1, 2)


class Stripes(nn.Module):
    """A half of DAT's channels: windows of other sides than the other half's, bias by a network of integer offsets."""

    def __init__(self, channels: int, heads: int, window: tuple[int, int]) -> None:
        super().__init__()
        self.num_heads, (self.H_sp, self.W_sp), self.scale = heads, window, (channels // heads) ** -0.5
        self.pos = nn.Sequential(nn.Linear(2, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, heads))

    def forward(self, qkv, h, w, mask=None):
        q, k, v = (
            windows_of(t.unflatten(1, (h, w)), self.H_sp, self.W_sp).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for t in qkv
        )
        attn = q * self.scale @ k.transpose(-2, -1)
        axes = (torch.arange(1.0 - side, side) for side in (self.H_sp, self.W_sp))
        offsets = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1).T
        bias = self.pos(offsets)[offsets_of(self.H_sp, self.W_sp).view(-1)]
        attn = attn + bias.view(q.shape[2], q.shape[2], -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        if mask is not None:
            attn = attn.view(len(attn) // len(mask), *mask.shape[:1], self.num_heads, *mask.shape[1:])
            attn = (attn + mask.unsqueeze(1).unsqueeze(0)).view(-1, self.num_heads, *mask.shape[1:])
        out = (nn.functional.softmax(attn, dim=-1, dtype=attn.dtype) @ v).transpose(1, 2).flatten(2)
        return maps_of(out, self.H_sp, self.W_sp, qkv[0].unflatten(1, (h, w)))


class Halves(nn.Module):
    """DAT's, RGT's and CRAFT's: queries, keys and values in the parent, halves of the channels to two modules."""

    def __init__(self, channels: int, heads: int, window: tuple[int, int], *, rolled: bool = True) -> None:
        super().__init__()
        self.split_size, self.rolled = window, rolled
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.attns = nn.ModuleList([Stripes(channels // 2, heads // 2, side) for side in (window, window[::-1])])

    def forward(self, image):
        h, w = image.shape[2:]
        qkv = self.qkv(image.flatten(2).transpose(1, 2)).unflatten(2, (3, -1)).permute(2, 0, 1, 3)
        outs = []
        for part, attn in zip(qkv.chunk(2, dim=-1), self.attns, strict=True):
            window = (attn.H_sp, attn.W_sp)
            shift = (window[0] // 2, window[1] // 2)
            if not self.rolled:
                outs.append(attn(part, h, w))
                continue
            rolled = part.unflatten(2, (h, w)).roll((-shift[0], -shift[1]), (2, 3)).flatten(2, 3)
            out = attn(rolled, h, w, mask=shift_mask((h, w), window, shift, -100.0))
            outs.append(out.roll(shift, (1, 2)))
        return image + self.proj(torch.cat(outs, dim=-1)).permute(0, 3, 1, 2)
