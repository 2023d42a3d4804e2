"""Window attention with a table of position biases, as in Swin and its descendants."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from nystra.hosts.layers import through
from nystra.kernels.projections import Projections
from nystra.sites.site import WindowAttention
from nystra.windows.partition import Cut
from nystra.windows.position_bias import PositionBias, TableBias

LARGEST_WINDOW = 64
"""Largest side of windows that checkpoints are trained in, in tokens."""


class TableAttention(WindowAttention):
    """Window attention with a table of relative position biases; subclasses have the maps to queries, keys, values.

    Args:
        dim: C.
        window_size: sides of the trained windows, h and w, in tokens; (t, h, w) where they reach over frames.
        num_heads: heads; divide C.
        qk_scale: of the queries; None: 1/√(C/heads).
        proj_drop: dropout of the result.

    Raises:
        ValueError: if `num_heads` does not divide `dim`, or windows are larger than a checkpoint's may be.
    """

    def __init__(
        self,
        dim: int,
        window_size: tuple[int, ...],
        num_heads: int,
        qk_scale: float | None = None,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(window_size, num_heads)
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"num_heads ({num_heads}) must divide embed_dim ({dim})")
        if max(window_size) > LARGEST_WINDOW:
            raise ValueError(
                f"window size ({max(window_size)}) must be at most {LARGEST_WINDOW} tokens, or checkpoints would not "
                "be loaded: build the network with smaller windows, and enlarge them by set_window"
            )
        self.dim = dim
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        offsets = [2 * side - 1 for side in window_size]
        self.relative_position_bias_table = nn.Parameter(torch.empty(math.prod(offsets), num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        positions = torch.cartesian_prod(*(torch.arange(side) for side in window_size))
        index = torch.zeros(len(positions), len(positions), dtype=torch.long)
        for count, offset in zip(offsets, (positions.unsqueeze(1) - positions + positions[-1]).unbind(-1), strict=True):
            index = index * count + offset
        self.register_buffer("relative_position_index", index)
        self.register_load_state_dict_pre_hook(keep_buffers)
        self.proj = nn.Linear(dim, dim)
        self.drop = nn.Dropout(proj_drop)

    def maps(self) -> tuple[Tensor, Tensor | None]:
        """Join the maps to queries (scaled), keys and values: weights (3C, C), and biases (3C,) or None.

        The scale goes into the weights, which are few, and not into the tokens.
        """
        raise NotImplementedError

    def forward(self, features: Tensor, cut: Cut) -> Tensor:
        """Attend within windows.

        Args:
            features: maps (B, H, W, C), or (B, T, H, W, C) for windows over frames.
            cut: of the maps into windows; those that were rolled are masked at the maps' edges.

        Returns:
            The shape of `features`.
        """
        geometry = self.geometry(cut.grid, cut.roll, cut.window)
        projections = Projections.of(*self.maps(), self.proj, self.num_heads)
        if self.kernel.absorbs(self.num_heads, self.head_channels):
            return cut.join(self.drop(self.kernel.absorbed(cut.windows(features), projections, geometry)))
        if self.kernel.reads_maps(features):
            attended = self.kernel.over_maps(*projections.maps(features), geometry, cut)
            return self.drop(through(attended.flatten(-2), self.proj))
        query, key, value = projections.heads(cut.windows(features))
        attended = self.kernel(query, key, value, geometry)
        return cut.join(self.drop(self.proj(attended.transpose(1, 2).flatten(2))))

    @property
    def head_channels(self) -> int:
        """Channels d of a head."""
        return self.dim // self.num_heads

    def position_bias(self, window: tuple[int, ...] | None = None) -> PositionBias:
        """Make the position bias of the present table.

        Args:
            window: sides of the windows that are cut, to which "interpolate" stretches the bias; None: `window_size`.
        """
        stretch: tuple[float, ...] = ()
        if self.bias_mode == "interpolate":
            sides = zip(self.trained_window_size, window or self.window_size, strict=True)
            stretch = tuple((trained - 1) / max(present - 1, 1) for trained, present in sides)
        return TableBias(self.relative_position_bias_table, self.trained_window_size, stretch)


def trained_window(table: Tensor) -> int:
    """Side of the windows that a table of position biases, (2·side - 1)² rows, was trained for.

    Raises:
        ValueError: if no window that is trained is so large; the index of positions has its fourth power of entries.
    """
    side = (math.isqrt(len(table)) + 1) // 2
    if side > LARGEST_WINDOW:
        raise ValueError(f"windows of {side} tokens a side, where {LARGEST_WINDOW} is the largest that is trained")
    return side


def keep_buffers(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Put a module's buffers into a state dict to be loaded; as nothing reads them, they may be missing or differ."""
    for name, buffer in module.named_buffers(recurse=False):
        state_dict[prefix + name] = buffer
