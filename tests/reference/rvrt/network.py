"""RVRT as published, in the published order of computation (Liang et al., NeurIPS 2022), for super-resolution by 4.

Written from the paper and the released checkpoints' key and shape lists, and checked against outputs of the official
code. Features are (B, T, C, H, W), and are permuted for every layer of tokens.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.reference.rvrt.deformable import deform_attn
from tests.reference.rvrt.flow import SpyNet, warp

BRANCHES = ("backward_1", "forward_1", "backward_2", "forward_2")
CLIP = 2


class FrameConv(nn.Conv3d):
    """A convolution of every frame by itself, by a kernel of one frame: (B, T, C, H, W) → (B, T, C', H, W)."""

    def __init__(self, inputs: int, outputs: int, side: int = 3, groups: int = 1) -> None:
        super().__init__(inputs, outputs, (1, side, side), padding=(0, side // 2, side // 2), groups=groups)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.transpose(1, 2)).transpose(1, 2)


def tokenwise(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer of tokens to features, whose channels are put last for it and back."""
    return layer(x.permute(0, 1, 3, 4, 2).contiguous()).permute(0, 1, 4, 2, 3).contiguous()


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


def partition(x: Tensor, window: Sequence[int]) -> Tensor:
    """Cut tokens (B, T, H, W, C) into windows (B·windows, N, C)."""
    b, t, h, w, c = x.shape
    x = x.view(b, t // window[0], window[0], h // window[1], window[1], w // window[2], window[2], c)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, math.prod(window), c)


def reverse(windows: Tensor, window: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Put windows (B·windows, N, C) together: (B, T, H, W, C)."""
    b, t, h, w, c = shape
    x = windows.view(b, t // window[0], h // window[1], w // window[2], *window, c)
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(b, t, h, w, c)


def shift_mask(size: Sequence[int], window: Sequence[int], shift: Sequence[int]) -> Tensor:
    """Mask (windows, N, N) of rolled features: -100 between tokens of different regions of them, else 0."""
    regions = torch.zeros(1, *size, 1)
    number = 0
    parts = [
        (slice(-side), slice(-side, -moved), slice(-moved, None)) for side, moved in zip(window, shift, strict=True)
    ]
    for frames in parts[0]:
        for rows in parts[1]:
            for columns in parts[2]:
                regions[:, frames, rows, columns] = number
                number += 1
    windows = partition(regions, window).squeeze(-1)
    difference = windows.unsqueeze(1) - windows.unsqueeze(2)
    return difference.masked_fill(difference != 0, -100.0)


class WindowAttention(nn.Module):
    """Attention with a table of relative position biases, all logits written: (windows, N, C) → (windows, N, C)."""

    def __init__(self, dim: int, window: Sequence[int], heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        counts = [2 * side - 1 for side in window]
        self.relative_position_bias_table = nn.Parameter(torch.zeros(math.prod(counts), heads))
        places = torch.cartesian_prod(*map(torch.arange, window))
        offsets = places.unsqueeze(1) - places.unsqueeze(0) + torch.tensor(window) - 1
        index = torch.zeros(len(places), len(places), dtype=torch.long)
        for axis, count in enumerate(counts):
            index = index * count + offsets[..., axis]
        # Windows of one frame are stored as those of images.
        self.register_buffer("relative_position_index", index)
        self.qkv_self = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv_self(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        logits = (q * self.scale) @ k.transpose(-2, -1)
        bias = self.relative_position_bias_table[self.relative_position_index[:n, :n].reshape(-1)]
        logits = logits + bias.view(n, n, -1).permute(2, 0, 1).unsqueeze(0)
        if mask is not None:
            logits = logits.view(-1, len(mask), self.heads, n, n) + mask.unsqueeze(1).unsqueeze(0)
            logits = logits.view(-1, self.heads, n, n)
        return self.proj((logits.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c))


class Block(nn.Module):
    """Pre-normalised window attention and feed-forward, each with a residual: (B, T, H, W, C) → the same."""

    def __init__(self, dim: int, window: Sequence[int], heads: int, ratio: float, shifted: bool) -> None:
        super().__init__()
        self.window, self.shifted = window, shifted
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * ratio))

    def forward(self, x: Tensor) -> Tensor:
        sides = x.shape[1:4]
        window = [min(pair) for pair in zip(sides, self.window, strict=True)]
        shift = [
            whole // 2 if self.shifted and side > whole else 0 for side, whole in zip(sides, self.window, strict=True)
        ]
        missing = [-side % whole for side, whole in zip(sides, window, strict=True)]
        branch = F.pad(self.norm1(x), (0, 0, 0, missing[2], 0, missing[1], 0, missing[0]))
        shape = branch.shape
        mask = None
        if any(shift):
            branch = torch.roll(branch, [-moved for moved in shift], (1, 2, 3))
            mask = shift_mask(shape[1:4], window, shift).to(x)
        branch = reverse(self.attn(partition(branch, window), mask), window, shape)
        if any(shift):
            branch = torch.roll(branch, shift, (1, 2, 3))
        x = x + branch[:, : sides[0], : sides[1], : sides[2]]
        return x + self.mlp(self.norm2(x))


class Blocks(nn.Module):
    """Blocks in turn, every second one shifted."""

    def __init__(self, dim: int, depth: int, window: Sequence[int], heads: int, ratio: float) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(dim, window, heads, ratio, bool(i % 2)) for i in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class ResidualGroup(nn.Module):
    """x + linear(blocks(x)), on features (B, T, C, H, W)."""

    def __init__(self, dim: int, depth: int, window: Sequence[int], heads: int, ratio: float) -> None:
        super().__init__()
        self.residual_group = Blocks(dim, depth, window, heads, ratio)
        self.linear = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + tokenwise(self.linear, tokenwise(self.residual_group, x))


class Numbered(nn.Module):
    """Layers in turn, under the numbers that they are stored by; those of tokens get their channels last."""

    def __init__(self, layers: dict[int, nn.Module]) -> None:
        super().__init__()
        for number, layer in layers.items():
            self.add_module(str(number), layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = tokenwise(layer, x) if isinstance(layer, nn.LayerNorm | nn.Linear | Mlp) else layer(x)
        return x


class ConvolvedGroups(nn.Module):
    """A convolution, a norm, residual groups, another norm: (B, T, C_in, H, W) → (B, T, C, H, W)."""

    def __init__(
        self, inputs: int, dim: int, parts: int, count: int, depth: int, heads: int, window: Sequence[int], ratio: float
    ) -> None:
        super().__init__()
        groups = nn.Sequential(*(ResidualGroup(dim, depth, window, heads, ratio) for _ in range(count)))
        layers = {1: FrameConv(inputs, dim, groups=parts), 3: nn.LayerNorm(dim), 5: groups, 7: nn.LayerNorm(dim)}
        self.main = Numbered(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


class Alignment(nn.Module):
    """Guided deformable attention from a clip (B, 2, C, H, W) to the clip before."""

    def __init__(self, dim: int, heads: int, groups: int, magnitude: float) -> None:
        super().__init__()
        self.heads, self.groups, self.magnitude = heads, groups, magnitude
        layers: dict[int, nn.Module] = {0: FrameConv(3 * dim + 4, 64, 1)}
        for number in (2, 4, 6, 8):
            layers |= {number - 1: nn.LeakyReLU(0.1), number: FrameConv(64, 64)}
        self.conv_offset = Numbered({**layers, 9: nn.LeakyReLU(0.1), 10: FrameConv(64, CLIP * groups * 18, 1)})
        self.proj_q, self.proj_k, self.proj_v = (Numbered({1: nn.Linear(dim, 2 * dim)}) for _ in range(3))
        self.proj = Numbered({1: nn.Linear(2 * dim, dim)})
        self.mlp = Numbered({1: Mlp(dim, 2 * dim)})

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, warped: Sequence[Tensor], flows: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        b, t, _, h, w = query.shape
        corrections = self.magnitude * torch.tanh(self.conv_offset(torch.cat([query, *warped, *flows], 2)))
        offsets = corrections.reshape(b, t, CLIP, self.groups * 9, 2, h, w)
        guides = torch.stack(list(flows), 2).flip(3).unsqueeze(3)
        offsets = offsets + guides
        q = self.proj_q(query).reshape(b * t, 1, -1, h, w)
        kv = torch.cat([self.proj_k(key), self.proj_v(value)], 2)
        flat = offsets.reshape(b * t, -1, h, w)
        x = deform_attn(q, kv, flat, self.heads, self.groups, CLIP).reshape(b, t, -1, h, w)
        x = self.proj(x)
        return x + self.mlp(x), list(offsets.mean(3).flip(3).unbind(2))


class RVRT(nn.Module):
    """RVRT for films (B, T, 3, H, W) of an even number of frames; arguments are the official ones."""

    def __init__(
        self,
        upscale: int = 4,
        clip_size: int = CLIP,
        img_size: Sequence[int] = (2, 64, 64),
        window_size: Sequence[int] = (2, 8, 8),
        num_blocks: Sequence[int] = (1, 2, 1),
        depths: Sequence[int] = (2, 2, 2),
        embed_dims: Sequence[int] = (144, 144, 144),
        num_heads: Sequence[int] = (6, 6, 6),
        mlp_ratio: float = 2.0,
        inputconv_groups: Sequence[int] = (1, 1, 1, 1, 1, 1),
        max_residue_magnitude: float = 10.0,
        deformable_groups: int = 12,
        attention_heads: int = 12,
        attention_window: Sequence[int] = (3, 3),
    ) -> None:
        super().__init__()
        if upscale != 4 or clip_size != CLIP or tuple(attention_window) != (3, 3):
            raise ValueError("only super-resolution by 4, clips of two frames and taps of 3×3 are written here")
        dim, single = embed_dims[0], (1, *window_size[1:])

        def groups(stage: int, inputs: int, parts: int, window: Sequence[int]) -> ConvolvedGroups:
            sizes = num_blocks[stage], depths[stage], num_heads[stage]
            return ConvolvedGroups(inputs, dim, parts, *sizes, window, mlp_ratio)

        self.spynet = SpyNet()
        self.feat_extract = groups(0, 3, inputconv_groups[0], single)
        self.deform_align = nn.ModuleDict(
            {name: Alignment(dim, attention_heads, deformable_groups, max_residue_magnitude) for name in BRANCHES}
        )
        self.backbone = nn.ModuleDict(
            {
                name: groups(1, (2 + index) * dim, inputconv_groups[1 + index], window_size)
                for index, name in enumerate(BRANCHES)
            }
        )
        self.reconstruction = groups(2, 5 * dim, inputconv_groups[5], single)
        self.conv_before_upsampler = Numbered({0: FrameConv(dim, 64, 1), 1: nn.LeakyReLU(0.1)})
        self.upsampler = Numbered({0: FrameConv(64, 256), 5: FrameConv(64, 256), 10: FrameConv(64, 64)})
        self.conv_last = FrameConv(64, 3)

    def forward(self, film: Tensor) -> Tensor:
        first, second = film[:, :-1].flatten(0, 1), film[:, 1:].flatten(0, 1)
        later = self.spynet(first, second).unflatten(0, (len(film), -1))
        earlier = self.spynet(second, first).unflatten(0, (len(film), -1))
        branches = [list(self.feat_extract(film).split(CLIP, 1))]
        corrected: dict[str, list[list[Tensor]]] = {}
        for name in BRANCHES:
            direction, turn = name.split("_")
            backward = direction == "backward"
            flows = (later.flip(1) if backward else earlier) if turn == "1" else None
            branch, corrected[direction] = self.propagate(name, branches, flows, corrected.get(direction, []), backward)
            branches.append(branch)
        x = self.reconstruction(torch.cat([torch.cat(branch, 1) for branch in branches], 2))
        x = self.conv_before_upsampler(x)
        for number in ("0", "5"):
            x = F.pixel_shuffle(self.upsampler.get_submodule(number)(x).flatten(0, 1), 2).unflatten(0, x.shape[:2])
            x = F.leaky_relu(x, 0.1)
        x = self.conv_last(self.upsampler.get_submodule("10")(x))
        base = F.interpolate(film.flatten(0, 1), scale_factor=4, mode="bilinear", align_corners=False)
        return x + base.unflatten(0, x.shape[:2])

    def propagate(
        self,
        name: str,
        branches: Sequence[Sequence[Tensor]],
        flows: Tensor | None,
        corrected: Sequence[list[Tensor]],
        backward: bool,
    ) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Propagate features from clip to clip, along flows between frames or, later, those that were corrected."""
        order = list(range(len(branches[0])))
        order = order[::-1] if backward else order
        carried = torch.zeros_like(branches[0][0])
        result: list[Tensor] = []
        guides: list[list[Tensor]] = []
        for step, number in enumerate(order):
            met = [branch[number].flip(1) if backward else branch[number] for branch in branches]
            if step:
                before = branches[-1][order[step - 1]]
                before = before.flip(1) if backward else before
                if flows is not None:
                    one, two, three = (flows[:, CLIP * step - 2 + place] for place in range(3))
                    two_zero, three_one = two + warp(one, two), three + warp(two, three)
                    three_zero = three + warp(two_zero, three)
                    guide = [torch.stack([two_zero, three_one], 1), torch.stack([two, three_zero], 1)]
                else:
                    guide = corrected[step - 1]
                warped = [
                    warp(part.flatten(0, 1), flow.flatten(0, 1)).unflatten(0, part.shape[:2])
                    for part, flow in zip((carried, carried.flip(1)), guide, strict=True)
                ]
                carried, guide = self.deform_align[name](met[-1], before, carried, warped, guide)
                guides.append(guide)
            carried = carried + self.backbone[name](torch.cat([*met, carried], 2))
            result.append(carried)
        return [clip.flip(1) for clip in reversed(result)] if backward else result, guides
