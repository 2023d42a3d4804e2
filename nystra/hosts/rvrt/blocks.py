"""Parts of RVRT: convolutions of frames, window attention over frames, residual groups behind a convolution.

Features are (B, T, H, W, C), contiguous: tokens for the attention, channels-last for the convolutions.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glmha.shared.recompute import recomputable
from nystra.hosts.layers import add_branch, mlp, through
from nystra.hosts.table_attention import TableAttention
from nystra.sites.site import AttendedMap
from nystra.windows.partition import Cut
from nystra.windows.position_bias import DenseBias, PositionBias


class FrameConv(nn.Conv3d):
    """A convolution of every frame by itself, whose kernel is saved with one frame: (out, in, 1, k, k).

    Args:
        in_channels: of the features.
        out_channels: of the result.
        side: k, odd; the result has the size of the features.
        stride: along rows and columns.
        groups: of channels.
    """

    def __init__(self, in_channels: int, out_channels: int, side: int = 3, stride: int = 1, groups: int = 1) -> None:
        spatial = (1, side, side)
        super().__init__(
            in_channels, out_channels, spatial, (1, stride, stride), (0, side // 2, side // 2), groups=groups
        )

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, T, H, W, C_in) to (B, T, H', W', C)."""
        frames = input.flatten(0, 1).permute(0, 3, 1, 2)
        weight = self.weight.squeeze(2)
        result = F.conv2d(frames, weight, self.bias, self.stride[1:], self.padding[1:], groups=self.groups)
        return result.permute(0, 2, 3, 1).contiguous().unflatten(0, input.shape[:2])


class Numbered(nn.Sequential):
    """Layers in turn that have upstream's numbers as keys; those between them have no parameters."""

    def __init__(self, layers: dict[int, nn.Module]) -> None:
        super().__init__(OrderedDict((str(number), layer) for number, layer in layers.items()))


class ClipAttention(TableAttention):
    """Window attention over frames; arguments as of `TableAttention`."""

    relative_position_index: Tensor

    def __init__(
        self,
        dim: int,
        window_size: tuple[int, ...],
        num_heads: int,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
    ) -> None:
        super().__init__(dim, window_size, num_heads, qk_scale)
        self.qkv_self = nn.Linear(dim, 3 * dim, bias=qkv_bias)

    def maps(self) -> tuple[Tensor, Tensor | None]:
        """Weight (3·C, C) and bias (3·C) of queries, keys and values, the scale folded into the queries'."""
        weight, bias = (
            None if whole is None else torch.cat([whole[: self.dim] * self.scale, whole[self.dim :]])
            for whole in (self.qkv_self.weight, self.qkv_self.bias)
        )
        return weight, bias

    def position_bias(self, window: tuple[int, ...] | None = None) -> PositionBias:
        """Make the position bias, see base class.

        Features that are smaller than a trained window are one window by themselves. Upstream then gives N tokens the
        bias of the first N tokens of a trained window, which lie elsewhere in it unless frames or rows alone are fewer.
        """
        cut = window or self.window_size
        as_trained = self.bias_mode == "keep" and self.window_size == self.trained_window_size
        # Tokens of whole rows, or of whole frames, have the same offsets there.
        first = next((axis for axis, side in enumerate(cut) if side > 1), 0)
        if not as_trained or cut[first + 1 :] == self.trained_window_size[first + 1 :]:
            return super().position_bias(window)
        count = torch.Size(cut).numel()
        index = self.relative_position_index[:count, :count]
        return DenseBias(self.relative_position_bias_table[index].permute(2, 0, 1), cut)


class ClipBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); windows are shifted by half their sides where `shifted`.

    Windows of one frame are those of images, and frames are images of a batch. Features are extended by zeros where
    windows do not divide them; those that are smaller than a window along an axis are not shifted along it.
    """

    recompute = False
    """Whether a training step recomputes the block's results instead of keeping them (`glmha.shared.recompute`)."""

    def __init__(self, norm1: nn.Module, attn: ClipAttention, norm2: nn.Module, mlp: nn.Module, shifted: bool) -> None:
        super().__init__()
        self.norm1 = norm1
        self.attn = attn
        self.attended = AttendedMap()
        self.norm2 = norm2
        self.mlp = mlp
        self.shifted = shifted

    @recomputable
    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, H, W, C) to the same shape."""
        x = x + self.attended(self._attend(self.norm1(x)))
        return add_branch(x, self.norm2, self.mlp)

    def _attend(self, x: Tensor) -> Tensor:
        shape = x.shape
        axes = len(self.attn.window_size)
        if axes == 2:
            x = x.flatten(0, 1)
        sides = x.shape[1:-1]
        window = tuple(map(min, sides, self.attn.window_size))
        shift = tuple(
            side // 2 if self.shifted and side < whole else 0 for side, whole in zip(window, sides, strict=True)
        )
        missing = [-whole % side for side, whole in zip(window, sides, strict=True)]
        if any(missing):
            x = F.pad(x, (0, 0, *(side for after in reversed(missing) for side in (0, after))))
        x = self.attn(x, Cut(tuple(x.shape[1:-1]), window, shift))
        for axis, whole in enumerate(sides, 1):
            x = x.narrow(axis, 0, whole)
        return x.reshape(shape)


class ResidualClipGroup(nn.Module):
    """x + linear(blocks(x))."""

    def __init__(self, blocks: Sequence[ClipBlock], dim: int) -> None:
        super().__init__()
        self.residual_group = nn.Sequential(OrderedDict(blocks=nn.Sequential(*blocks)))
        self.linear = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, H, W, C) to the same shape."""
        return x + through(self.residual_group(x), self.linear)


class ConvolvedGroups(nn.Module):
    """A convolution of frames and a norm, residual groups of window attention, another norm.

    Args:
        in_channels: of the features.
        dim: C, of the result.
        groups: of the channels that are convolved.
        num_blocks: residual groups.
        depth: blocks of a group.
        num_heads: heads; divide C.
        window_size: t, h and w of the windows, in tokens.
        mlp_ratio: hidden channels of the feed-forward networks over C.
        qkv_bias: whether queries, keys and values have biases.
        qk_scale: factor of q·k; None: (C / heads)^(-1/2).
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        groups: int,
        num_blocks: int,
        depth: int,
        num_heads: int,
        window_size: tuple[int, int, int],
        mlp_ratio: float = 2.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
    ) -> None:
        super().__init__()
        window = window_size if window_size[0] > 1 else window_size[1:]

        def block(index: int) -> ClipBlock:
            attn = ClipAttention(dim, window, num_heads, qkv_bias, qk_scale)
            feed = mlp(dim, int(dim * mlp_ratio))
            return ClipBlock(nn.LayerNorm(dim), attn, nn.LayerNorm(dim), feed, shifted=index % 2 == 1)

        self.main = Numbered(
            {
                1: FrameConv(in_channels, dim, groups=groups),
                3: nn.LayerNorm(dim),
                5: nn.Sequential(
                    *(ResidualClipGroup([block(index) for index in range(depth)], dim) for _ in range(num_blocks))
                ),
                7: nn.LayerNorm(dim),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, H, W, C_in) to (B, T, H, W, C)."""
        return self.main(x)
