"""Parts of Uformer: window attention, locally enhanced feed-forward, block, level.

Features are (B, H, W, C), contiguous: tokens for the attention, channels-last for the convolutions.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glmha.shared.recompute import recomputable
from nystra.hosts.layers import add_branch, stochastic_depth, through
from nystra.hosts.table_attention import TableAttention
from nystra.sites.site import AttendedMap
from nystra.windows.partition import Cut


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
        super().__init__(dim, window_size, num_heads, qk_scale, proj_drop)
        self.qkv = Projection(dim, qkv_bias)

    def maps(self) -> tuple[Tensor, Tensor | None]:
        """Weight (3·C, C) and bias (3·C) of queries, keys and values, the scale folded into the queries'."""
        query, both = self.qkv.to_q, self.qkv.to_kv
        bias = None if query.bias is None else torch.cat([query.bias * self.scale, both.bias])
        return torch.cat([query.weight * self.scale, both.weight]), bias


class LocallyEnhanced(nn.Module):
    """LeFF: linear, GELU, 3×3 depth-wise convolution, GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Sequential(nn.Linear(dim, hidden), nn.GELU())
        self.dwconv = nn.Sequential(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), nn.GELU())
        self.linear2 = nn.Sequential(nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        expanded = through(x, self.linear1).permute(0, 3, 1, 2)
        return through(self.dwconv(expanded).permute(0, 2, 3, 1), self.linear2)


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)); the decoder's windows get a learned modulator first."""

    recompute = False
    """Whether a training step recomputes the block's results instead of keeping them (`glmha.shared.recompute`)."""

    def __init__(
        self, attention: UformerAttention, feed_forward: nn.Module, *, modulated: bool, shifted: bool, drop_path: float
    ) -> None:
        super().__init__()
        dim, (height, width) = attention.dim, attention.window_size
        self.modulator = nn.Embedding(height * width, dim) if modulated else None
        self.norm1 = nn.LayerNorm(dim)
        self.attn = attention
        self.attended = AttendedMap()
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = feed_forward
        self.shifted = shifted
        self.drop_path = drop_path

    @recomputable
    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C), H and W multiples of the window's sides or smaller than they, to the same shape."""
        sides, (rows, columns) = x.shape[1:3], self.attn.window_size
        window = (min(rows, sides[0]), min(columns, sides[1]))
        grid = (sides[0] // window[0], sides[1] // window[1])
        # Along an axis of one window there is no neighbour to shift from.
        shift = (
            window[0] // 2 if self.shifted and grid[0] > 1 else 0,
            window[1] // 2 if self.shifted and grid[1] > 1 else 0,
        )
        branch = self.norm1(x)
        if self.modulator is not None and self.attn.bias_mode != "drop":
            # The windows' places in the map's order: windows are rolled, each of them is modulated alike.
            modulation = self._modulation(self.modulator.weight, window).unflatten(0, window).roll(shift, (0, 1))
            windows = branch.unflatten(2, (grid[1], window[1])).unflatten(1, (grid[0], window[0]))
            branch = (windows + modulation.unsqueeze(1)).flatten(3, 4).flatten(1, 2)
        branch = self.attended(self.attn(branch, Cut((sides[0], sides[1]), window, shift)))
        x = x + stochastic_depth(branch, self.drop_path, training=self.training)
        return add_branch(x, self.norm2, self.mlp, rate=self.drop_path, training=self.training)

    def _modulation(self, weight: Tensor, window: tuple[int, int]) -> Tensor:
        """The modulator for a window: (N, C)."""
        trained = self.attn.trained_window_size
        if trained == window:
            return weight
        grid = weight.unflatten(0, trained)
        if self.attn.bias_mode == "interpolate":
            resized = F.interpolate(grid.permute(2, 0, 1)[None], window, mode="bilinear", align_corners=True)
            return resized[0].permute(1, 2, 0).flatten(0, 1)
        repeats = [-(-new // old) for new, old in zip(window, trained, strict=True)]
        return grid.repeat(*repeats, 1)[: window[0], : window[1]].flatten(0, 1)


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
