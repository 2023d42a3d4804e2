"""Parts of DehazeFormer: rescaling norm, attention whose bias a network makes, blocks, fusion of features."""

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from glmha.shared.precision import at_least_float32
from glmha.shared.recompute import recomputable
from nystra.hosts.layers import PointwiseConv, natively, pointwise
from nystra.sites.site import AttendedMap, WindowAttention
from nystra.windows.partition import Cut
from nystra.windows.position_bias import LogOffsetBias

ConvType = Literal["Conv", "DWConv"] | None


class MetaWindowAttention(WindowAttention):
    """Attention within windows with a position bias that a small network makes.

    Args:
        dim: C.
        window_size: side of the trained windows, in tokens.
        num_heads: h; divides C.
    """

    relative_positions: Tensor

    def __init__(self, dim: int, window_size: int, num_heads: int) -> None:
        super().__init__((window_size, window_size), num_heads)
        self.dim = dim
        axis = torch.arange(window_size)
        tokens = torch.cartesian_prod(axis, axis)
        offsets = (tokens.unsqueeze(1) - tokens.unsqueeze(0)).float()
        self.register_buffer("relative_positions", offsets.sign() * (1 + offsets.abs()).log())
        self.meta = nn.Sequential(nn.Linear(2, 256), nn.ReLU(), nn.Linear(256, num_heads))

    @property
    def head_channels(self) -> int:
        """Channels d of a head."""
        return self.dim // self.num_heads

    def position_bias(self, window: tuple[int, ...] | None = None) -> LogOffsetBias:
        """Make the position bias of the present network; "keep" runs it at the true offsets, even if untrained.

        Args:
            window: h and w of the windows that are cut, to which "interpolate" stretches the bias; None: `window_size`.
        """
        window = window or self.window_size
        if self.bias_mode != "interpolate" or window == self.trained_window_size:
            return LogOffsetBias(self.meta)
        (trained, _), (height, width) = self.trained_window_size, window
        return LogOffsetBias(self.meta, ((trained - 1) / max(height - 1, 1), (trained - 1) / max(width - 1, 1)))

    def forward(self, qkv: Tensor, cut: Cut) -> Tensor:
        """Attend within windows.

        Args:
            qkv: maps of queries (scaled), keys and values, (B, H, W, 3C).
            cut: of the maps into windows.

        Returns:
            Shape (B, H, W, C).
        """
        query, key, value = qkv.unflatten(3, (3, self.num_heads, -1)).unbind(3)
        return self.kernel.over_maps(query, key, value, self.geometry(cut.grid), cut).flatten(3)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        # Of the buffer only the size is read: it is that of the windows that the weights were trained with.
        positions = state_dict.get(f"{prefix}relative_positions")
        if isinstance(positions, Tensor) and positions.shape != self.relative_positions.shape:
            side = math.isqrt(len(positions)) if positions.dim() == 3 else 0
            if positions.shape == (side**2, side**2, 2):
                self.trained_window_size = (side, side)
                self.relative_positions = torch.empty_like(positions, device=self.relative_positions.device)
                self._tables.clear()
        super()._load_from_state_dict(state_dict, prefix, *rest)


class RescaleNorm(nn.Module):
    """RLN: layer norm over channels and pixels that also gives a rescale and a rebias made of deviation and mean.

    Args:
        dim: C.
        eps: added to the variance.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(1, dim, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, dim, 1, 1))
        self.meta1 = nn.Conv2d(1, dim, 1)
        self.meta2 = nn.Conv2d(1, dim, 1)
        # At first the block's output is hardly rescaled or rebiased.
        for meta in (self.meta1, self.meta2):
            nn.init.normal_(meta.weight, std=0.02)
        nn.init.ones_(self.meta1.get_parameter("bias"))
        nn.init.zeros_(self.meta2.get_parameter("bias"))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (B, C, H, W) to the normalised features and, of shape (B, C, 1, 1), the block's rescale and rebias."""
        # torch.var_mean takes ten times as long on a processor. Squares of float16 would overflow.
        mean = x.mean((1, 2, 3), keepdim=True)
        variance = at_least_float32(x - mean).square().mean((1, 2, 3), keepdim=True)
        std = (variance + self.eps).sqrt().to(x.dtype)
        factor = self.weight / std
        # (x - mean) / std · weight + bias in one pass over the features.
        return torch.addcmul(self.bias - mean * factor, x, factor), self.meta1(std), self.meta2(mean)


class Attention(nn.Module):
    """A convolution, window attention, or the sum of both, of the same values.

    Args:
        dim: C.
        num_heads: h.
        window_size: side of the trained windows, in tokens.
        attends: whether there is attention.
        shifted: whether windows are shifted by half their side.
        conv_type: "Conv" (two 3×3 convolutions), "DWConv" (one 5×5 depthwise) or None.
    """

    def __init__(
        self, dim: int, num_heads: int, window_size: int, *, attends: bool, shifted: bool, conv_type: ConvType
    ) -> None:
        super().__init__()
        self.shifted = shifted
        self.proj: nn.Module | None = None
        self.attn: MetaWindowAttention | None = None
        # Pixels by which the convolution pads its input.
        self.conv_reach = {"Conv": 1, "DWConv": 2, None: 0}[conv_type]
        if conv_type == "Conv":
            first, second = (nn.Conv2d(dim, dim, 3, padding=1, padding_mode="reflect") for _ in range(2))
            self.conv: nn.Module = nn.Sequential(first, nn.ReLU(inplace=True), second)
        elif conv_type == "DWConv":
            self.conv = nn.Conv2d(dim, dim, 5, padding=2, groups=dim, padding_mode="reflect")
        if attends or conv_type == "DWConv":
            self.V = PointwiseConv(dim, dim)
            self.proj = PointwiseConv(dim, dim)
        if attends:
            self.QK = PointwiseConv(dim, 2 * dim)
            self.attn = MetaWindowAttention(dim, window_size, num_heads)
            self.attended = AttendedMap()

    def margins(self, axis: int, side: int) -> tuple[int, int]:
        """Tokens added before and after a side of the features, so that shifted windows tile it and need no mask."""
        if self.attn is None:
            return 0, 0
        window = self.attn.window_size[axis]
        shift = window // 2 if self.shifted else 0
        # As a number of windows: symbolic sides are then known to be whole.
        return shift, (side + shift + window - 1) // window * window - side - shift

    def reach(self, axis: int, side: int) -> int:
        """Largest number of tokens by which reflection extends a side of the features."""
        return max(self.conv_reach, *self.margins(axis, side))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        if self.attn is None:
            return self.conv(x) if self.proj is None else self.proj(self.conv(self.V(x)))
        # Upstream's two convolutions in one: queries and keys need no copying beside the values. The scale goes into
        # the weights, which are few.
        dim, scale = self.attn.dim, self.attn.head_channels**-0.5
        weight, bias = (
            torch.cat([keys[:dim] * scale, keys[dim:], values])
            for keys, values in ((getattr(self.QK, name), getattr(self.V, name)) for name in ("weight", "bias"))
        )
        qkv = pointwise(x, weight, bias)
        result = self._windows(qkv, self.attn)
        if self.conv_reach:
            result = result + self.conv(qkv[:, -x.shape[1] :])
        return result if self.proj is None else self.proj(result)

    def _windows(self, qkv: Tensor, attention: MetaWindowAttention) -> Tensor:
        height, width = qkv.shape[2:]
        cut = Cut((height, width), attention.window_size, margins=(*self.margins(0, height), *self.margins(1, width)))
        return self.attended(attention(qkv.permute(0, 2, 3, 1), cut)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """x + attention(x), normalised and rescaled where it attends, then x + feed-forward(x)."""

    recompute = False
    """Whether a training step recomputes the block's results instead of keeping them (`glmha.shared.recompute`)."""

    def __init__(self, dim: int, attention: Attention, hidden: int) -> None:
        super().__init__()
        self.norm1 = None if attention.attn is None else RescaleNorm(dim)
        self.attn = attention
        self.mlp = named(
            "mlp", nn.Sequential(PointwiseConv(dim, hidden), nn.ReLU(inplace=True), PointwiseConv(hidden, dim))
        )

    @recomputable
    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        if self.norm1 is None:
            x = x + self.attn(x)
        else:
            normalised, rescale, rebias = self.norm1(x)
            x = torch.addcmul(x + rebias, self.attn(normalised), rescale)
        tokens = natively(x.permute(0, 2, 3, 1), self.mlp, residual=x.permute(0, 2, 3, 1))
        return x + self.mlp(x) if tokens is None else tokens.permute(0, 3, 1, 2)


class Layer(nn.Module):
    """The blocks of a level."""

    def __init__(self, *blocks: Block) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def reach(self, axis: int, side: int) -> int:
        """Largest number of tokens by which reflection extends a side of the features, of all blocks."""
        return max([0, *(block.attn.reach(axis, side) for block in self.blocks if isinstance(block, Block))])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return self.blocks(x)


class SKFusion(nn.Module):
    """Sum of features, each weighed by channel (selective kernels).

    Args:
        dim: C.
        height: how many features are fused.
        reduction: C over the hidden channels, of which there are four at least.
    """

    def __init__(self, dim: int, height: int = 2, reduction: int = 8) -> None:
        super().__init__()
        self.height = height
        hidden = max(dim // reduction, 4)
        down, up = nn.Conv2d(dim, hidden, 1, bias=False), nn.Conv2d(hidden, dim * height, 1, bias=False)
        self.mlp = nn.Sequential(down, nn.ReLU(), up)

    def forward(self, *features: Tensor) -> Tensor:
        """Fuse `height` features of shape (B, C, H, W) into one."""
        means = sum(feature.mean((2, 3), keepdim=True) for feature in features)
        weights = self.mlp(means).unflatten(1, (self.height, -1)).softmax(1).unbind(1)
        result = features[0] * weights[0]
        for feature, weight in zip(features[1:], weights[1:], strict=True):
            result = torch.addcmul(result, feature, weight)
        return result


def named(name: str, module: nn.Module) -> nn.Sequential:
    """A module one level further down, where upstream's keys have it."""
    return nn.Sequential(OrderedDict({name: module}))
