"""Parts of SwinIR: window attention with a table of biases, the block, groups of blocks, the shift mask.

Features are (B, H, W, C), contiguous: tokens for the attention, channels-last for the convolutions.
"""

import functools
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from glmha.shared.recompute import recomputable
from nystra.hosts.layers import add_branch, stochastic_depth
from nystra.hosts.table_attention import TableAttention, keep_buffers
from nystra.sites.site import AttendedMap
from nystra.windows.geometry import WindowGeometry
from nystra.windows.partition import Cut

convolution = functools.partial(nn.Conv2d, kernel_size=3, padding=1)


class SwinAttention(TableAttention):
    """Window attention of one linear map for queries, keys and values; arguments as of `SwinIR`."""

    def __init__(
        self,
        dim: int,
        window_size: tuple[int, int],
        num_heads: int,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(dim, window_size, num_heads, qk_scale, proj_drop)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)

    def maps(self) -> tuple[Tensor, Tensor | None]:
        """Weight (3·C, C) and bias (3·C) of queries, keys and values, the scale folded into the queries'."""
        weight, bias = (
            None if whole is None else torch.cat([whole[: self.dim] * self.scale, whole[self.dim :]])
            for whole in (self.qkv.weight, self.qkv.bias)
        )
        return weight, bias


class SwinBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); windows are shifted by half their side where a `mask` is given.

    The mask is upstream's buffer, saved and never read.
    """

    recompute = False
    """Whether a training step recomputes the block's results instead of keeping them (`glmha.shared.recompute`)."""

    def __init__(
        self,
        norm1: nn.Module,
        attn: SwinAttention,
        norm2: nn.Module,
        mlp: nn.Module,
        mask: Tensor | None,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.norm1 = norm1
        self.attn = attn
        self.attended = AttendedMap()
        self.norm2 = norm2
        self.mlp = mlp
        self.shifted = mask is not None
        if self.shifted:
            self.register_buffer("attn_mask", mask)
            self.register_load_state_dict_pre_hook(keep_buffers)
        self.drop_path = drop_path

    @recomputable
    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C), H and W multiples of the window's sides, to the same shape."""
        window = self.attn.window_size
        shift = (window[0] // 2, window[1] // 2) if self.shifted else (0, 0)
        branch = self.attended(self.attn(self.norm1(x), Cut((x.shape[1], x.shape[2]), window, shift)))
        x = x + stochastic_depth(branch, self.drop_path, training=self.training)
        return add_branch(x, self.norm2, self.mlp, rate=self.drop_path, training=self.training)


class ResidualGroup(nn.Module):
    """x + convolution(blocks(x))."""

    def __init__(self, blocks: Sequence[SwinBlock], conv: nn.Module) -> None:
        super().__init__()
        self.residual_group = nn.Sequential(OrderedDict(blocks=nn.Sequential(*blocks)))
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        return x + self.conv(self.residual_group(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def connection(dim: int, kind: str) -> nn.Module:
    """One convolution, or three with a quarter of the channels between them."""
    if kind == "1conv":
        return convolution(dim, dim)
    inner = dim // 4
    leaky = functools.partial(nn.LeakyReLU, 0.2)
    return nn.Sequential(convolution(dim, inner), leaky(), nn.Conv2d(inner, inner, 1), leaky(), convolution(inner, dim))


def shift_mask(resolution: tuple[int, int], side: int) -> Tensor:
    """Upstream's mask (windows, N, N) of a feature map shifted by half a window.

    Args:
        resolution: height and width of the feature map, in tokens.
        side: of the windows, in tokens.

    Raises:
        ValueError: if `side` does not divide the resolution.
    """
    if resolution[0] % side or resolution[1] % side:
        raise ValueError(f"img_size ({resolution[0]}×{resolution[1]}) must be a multiple of window_size ({side})")
    grid = (resolution[0] // side, resolution[1] // side)
    mask = torch.zeros(*grid, side**2, side**2)
    for places, kind in WindowGeometry((side, side), grid, (side // 2, side // 2)).kinds(mask.device):
        mask[places] = kind.logits(kind.positions(), kind.positions())
    return mask.flatten(0, 1)
