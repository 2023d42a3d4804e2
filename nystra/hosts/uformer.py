"""Uformer (Wang et al., "Uformer: A General U-Shaped Transformer for Image Restoration", CVPR 2022), released keys.

Features are (B, H, W, C), contiguous: tokens for the attention, channels-last for the convolutions.
"""

import functools
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nystra.geometry import merge, partition
from nystra.hosts.table_attention import TableAttention, stochastic_depth
from nystra.sites import BiasMode

LEVELS = 4
"""Levels above the bottleneck."""
HEADS = (1, 2, 4, 8, 16, 16, 8, 4, 2)


class Projection(nn.Module):
    """Linear maps to queries, and to keys and values (keys `to_q`, `to_kv`)."""

    def __init__(self, dim: int, bias: bool) -> None:
        super().__init__()
        self.to_q = nn.Linear(dim, dim, bias=bias)
        self.to_kv = nn.Linear(dim, 2 * dim, bias=bias)


class UformerAttention(TableAttention):
    """Window attention; arguments as of `Uformer`, `window_size` h and w."""

    def __init__(
        self,
        dim: int,
        window_size: tuple[int, int],
        num_heads: int,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(dim, window_size, num_heads, qk_scale)
        self.qkv = Projection(dim, qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.drop = nn.Dropout(proj_drop)

    def forward(self, windows: Tensor, grid: tuple[int, int] = (1, 1), shift: tuple[int, int] = (0, 0)) -> Tensor:
        """Attend within windows (B·R·S, N, C) of feature maps of `grid` R×S, rolled by `shift` tokens: same shape."""
        query, both = self.qkv.to_q, self.qkv.to_kv
        # The queries' scale goes into their weights, which are few; one product makes all three.
        weight = torch.cat([query.weight * self.scale, both.weight])
        bias = None if query.bias is None else torch.cat([query.bias * self.scale, both.bias])
        qkv = F.linear(windows, weight, bias).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = self.attend(qkv[0], qkv[1], qkv[2], grid, shift)
        return self.drop(self.proj(attended.transpose(1, 2).flatten(2)))


class LocallyEnhanced(nn.Module):
    """LeFF: linear, GELU, 3×3 depth-wise convolution, GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Sequential(nn.Linear(dim, hidden), nn.GELU())
        self.dwconv = nn.Sequential(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), nn.GELU())
        self.linear2 = nn.Sequential(nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        expanded = self.linear1(x).permute(0, 3, 1, 2)
        return self.linear2(self.dwconv(expanded).permute(0, 2, 3, 1))


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)); the decoder's windows get a learned modulator first."""

    def __init__(
        self, attention: UformerAttention, feed_forward: nn.Module, *, modulated: bool, shifted: bool, drop_path: float
    ) -> None:
        super().__init__()
        dim, (height, width) = attention.dim, attention.window_size
        self.modulator = nn.Embedding(height * width, dim) if modulated else None
        self.norm1 = nn.LayerNorm(dim)
        self.attn = attention
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = feed_forward
        self.shifted = shifted
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C), H and W multiples of the window's sides, to the same shape."""
        window = self.attn.window_size
        grid = (x.shape[1] // window[0], x.shape[2] // window[1])
        # A map of one window has no neighbours to shift from.
        shift = (window[0] // 2, window[1] // 2) if self.shifted and grid != (1, 1) else (0, 0)
        branch = self.norm1(x)
        if shift != (0, 0):
            branch = branch.roll((-shift[0], -shift[1]), (1, 2))
        windows = partition(branch, window)
        if self.modulator is not None and self.attn.bias_mode != "drop":
            windows = windows + self._modulation(self.modulator.weight)
        branch = merge(self.attn(windows, grid, shift), window, grid)
        if shift != (0, 0):
            branch = branch.roll(shift, (1, 2))
        x = x + stochastic_depth(branch, self.drop_path, training=self.training)
        return x + stochastic_depth(self.mlp(self.norm2(x)), self.drop_path, training=self.training)

    def _modulation(self, weight: Tensor) -> Tensor:
        """The modulator for the present window: (N, C)."""
        trained, present = self.attn.trained_window_size, self.attn.window_size
        if trained == present:
            return weight
        grid = weight.unflatten(0, trained)
        if self.attn.bias_mode == "interpolate":
            resized = F.interpolate(grid.permute(2, 0, 1)[None], present, mode="bilinear", align_corners=True)
            return resized[0].permute(1, 2, 0).flatten(0, 1)
        repeats = [-(-new // old) for new, old in zip(present, trained, strict=True)]
        return grid.repeat(*repeats, 1)[: present[0], : present[1]].flatten(0, 1)


class Level(nn.Module):
    """The blocks of a level (key `blocks`)."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        for block in self.blocks:
            x = block(x)
        return x


def wrapped(name: str, *layers: nn.Module) -> nn.Sequential:
    """A sequence of layers under one more name."""
    return nn.Sequential(OrderedDict({name: nn.Sequential(*layers)}))


def convolved(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer of images to features (B, H, W, C)."""
    return layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Uformer(nn.Module):
    """Uformer: a U of window-attention blocks with locally enhanced feed-forwards.

    Argument names and state-dict keys are upstream's, so released checkpoints load strictly. Any image of a height and
    width that are multiples of 16 windows' sides is taken, not square ones only.

    Args:
        img_size: side of the training images; levels whose maps were no larger than a window are not shifted.
        in_chans: channels of the result.
        dd_in: channels of the image; where they are 3 the image is added to the result.
        embed_dim: C of the finest level.
        depths: blocks of the levels: encoder, bottleneck, decoder.
        num_heads: heads of the same levels.
        win_size: side of the windows, in tokens.
        mlp_ratio: hidden channels of the feed-forward networks over C.
        qkv_bias: whether queries, keys and values have biases.
        qk_scale: of the queries; None: 1/√d.
        drop_path_rate: stochastic depth of the bottleneck; that of the other blocks rises towards it.
        token_projection: "linear", what all released models have.
        token_mlp: "leff" (locally enhanced) or "ffn" (an MLP).
        modulator: whether the decoder's windows have a learned modulator.
        shift_flag: whether every second block shifts its windows; the released models do.

    Raises:
        ValueError: for arguments that cannot be.
    """

    scale = 1

    def __init__(
        self,
        img_size: int = 128,
        in_chans: int = 3,
        dd_in: int = 3,
        embed_dim: int = 32,
        depths: Sequence[int] = (2, 2, 2, 2, 2, 2, 2, 2, 2),
        num_heads: Sequence[int] = HEADS,
        win_size: int = 8,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_path_rate: float = 0.1,
        token_projection: str = "linear",
        token_mlp: str = "leff",
        modulator: bool = False,
        shift_flag: bool = True,
    ) -> None:
        super().__init__()
        for name, values in (("depths", depths), ("num_heads", num_heads)):
            if len(values) != 2 * LEVELS + 1:
                raise ValueError(f"{name} ({list(values)}) must have {2 * LEVELS + 1} entries, one per level")
        if token_projection != "linear":
            raise ValueError(f"token_projection ({token_projection}) must be linear: no released model has another")
        if token_mlp not in ("leff", "ffn"):
            raise ValueError(f"token_mlp ({token_mlp}) must be leff or ffn")
        if win_size < 1 or img_size < 1:
            raise ValueError(f"win_size ({win_size}) and img_size ({img_size}) must be at least 1")
        self.dd_in = dd_in
        self.window_size = win_size
        count = sum(depths[:LEVELS])
        rising = [drop_path_rate * index / max(count - 1, 1) for index in range(count)]
        rates = [*rising, *[drop_path_rate] * depths[LEVELS], *rising[::-1]]

        def level(index: int, dim: int) -> Level:
            side = img_size >> min(index, 2 * LEVELS - index)
            start = sum(depths[:index])
            blocks = []
            for number in range(depths[index]):
                attention = UformerAttention(dim, (win_size, win_size), num_heads[index], qkv_bias, qk_scale)
                hidden = int(dim * mlp_ratio)
                blocks.append(
                    Block(
                        attention,
                        LocallyEnhanced(dim, hidden) if token_mlp == "leff" else Mlp(dim, hidden),
                        modulated=modulator and index > LEVELS,
                        shifted=shift_flag and number % 2 == 1 and side > win_size,
                        drop_path=rates[min(start + number, len(rates) - 1)],
                    )
                )
            return Level(blocks)

        same = functools.partial(nn.Conv2d, kernel_size=3, padding=1)
        self.input_proj = wrapped("proj", same(dd_in, embed_dim), nn.LeakyReLU(inplace=True))
        self.output_proj = wrapped("proj", same(2 * embed_dim, in_chans))
        for index in range(LEVELS):
            dim = embed_dim * 2**index
            self.add_module(f"encoderlayer_{index}", level(index, dim))
            self.add_module(f"dowsample_{index}", wrapped("conv", nn.Conv2d(dim, 2 * dim, 4, stride=2, padding=1)))
        self.conv = level(LEVELS, embed_dim * 2**LEVELS)
        for index in range(LEVELS):
            dim = embed_dim * 2 ** (LEVELS - index)
            # The first reads the bottleneck, the others a decoder level of twice its skip's channels.
            finer = embed_dim * 2 ** (LEVELS - 1 - index)
            coarser = dim if index == 0 else 2 * dim
            self.add_module(f"upsample_{index}", wrapped("deconv", nn.ConvTranspose2d(coarser, finer, 2, stride=2)))
            self.add_module(f"decoderlayer_{index}", level(LEVELS + 1 + index, 2 * finer))
        self.apply(_initialise)

    @property
    def size_multiple(self) -> int:
        """What height and width of an image must be multiples of."""
        return 2**LEVELS * self.window_size

    def set_window(self, window_size: int, position_bias: BiasMode = "keep") -> None:
        """Attend within windows of another size.

        Args:
            window_size: their side, in tokens.
            position_bias: what becomes of the biases, see `WindowAttention`, and of the modulators: "keep" repeats
                them, "interpolate" resizes them (bilinear), "drop" leaves them out.

        Raises:
            ValueError: for values that cannot be.
        """
        for module in self.modules():
            if isinstance(module, UformerAttention):
                module.set_window(window_size, position_bias)
        self.window_size = window_size

    def forward(self, image: Tensor) -> Tensor:
        """Restore an image.

        Args:
            image: shape (B, dd_in, H, W), range [0, 1], H and W multiples of `size_multiple`.

        Returns:
            Shape (B, in_chans, H, W), not clamped.

        Raises:
            ValueError: if H or W is no such multiple.
        """
        height, width = image.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple:
            raise ValueError(
                f"image ({height}×{width}) must have sides that are multiples of {self.size_multiple}, 16 windows of "
                f"{self.window_size} tokens: pad it, as trainers.tiling.restore does"
            )
        x = self.input_proj(image.contiguous(memory_format=torch.channels_last)).permute(0, 2, 3, 1)
        skips = []
        for index in range(LEVELS):
            skips.append(self.get_submodule(f"encoderlayer_{index}")(x))
            x = convolved(self.get_submodule(f"dowsample_{index}"), skips[-1])
        x = self.conv(x)
        for index in range(LEVELS):
            x = torch.cat([convolved(self.get_submodule(f"upsample_{index}"), x), skips.pop()], -1)
            x = self.get_submodule(f"decoderlayer_{index}")(x)
        result = self.output_proj(x.permute(0, 3, 1, 2))
        return image + result if self.dd_in == 3 else result


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def infer_arguments(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Constructor arguments of a Uformer by inspection of its state dict.

    `shift_flag` and `img_size` leave no trace: they stay at their defaults, the released models'.

    Args:
        weights: bare state dict.

    Raises:
        KeyError: if a parameter that tells something is missing.
    """
    levels = [
        *(f"encoderlayer_{index}" for index in range(LEVELS)),
        "conv",
        *(f"decoderlayer_{index}" for index in range(LEVELS)),
    ]
    first = f"{levels[0]}.blocks.0"
    embed_dim, dd_in = weights["input_proj.proj.0.weight"].shape[:2]
    tables = [weights[f"{level}.blocks.0.attn.relative_position_bias_table"] for level in levels]
    local = f"{first}.mlp.linear1.0.weight"
    hidden = weights[local if local in weights else f"{first}.mlp.fc1.weight"].shape[0]
    return {
        "in_chans": weights["output_proj.proj.0.weight"].shape[0],
        "dd_in": dd_in,
        "embed_dim": embed_dim,
        "depths": [
            len({key.split(".")[2] for key in weights if key.startswith(f"{level}.blocks.")}) for level in levels
        ],
        "num_heads": [table.shape[1] for table in tables],
        "win_size": (math.isqrt(len(tables[0])) + 1) // 2,
        "mlp_ratio": hidden / embed_dim,
        "qkv_bias": f"{first}.attn.qkv.to_q.bias" in weights,
        "token_mlp": "leff" if local in weights else "ffn",
        "modulator": f"{levels[-1]}.blocks.0.modulator.weight" in weights,
    }
