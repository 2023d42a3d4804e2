"""Position bias between any positions, fractional ones too, from the parameters of a checkpoint."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import torch
from torch import Tensor


class PositionBias(abc.ABC):
    """A bias of the logits that depends on the positions of query and key."""

    @abc.abstractmethod
    def between(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Bias between positions (n, 2) and (m, 2), in tokens, fractional ones too: (heads, n, m)."""

    @abc.abstractmethod
    def parameters(self) -> tuple[Tensor, ...]:
        """Tensors from which the bias is computed: all of them, as what is kept of a bias is known by their values."""

    @property
    def options(self) -> tuple[Any, ...]:
        """Settings by which the bias is computed from its parameters; empty where there is no choice."""
        return ()


class OffsetBias(PositionBias):
    """A bias that depends on the offset from key to query alone."""

    @abc.abstractmethod
    def at(self, offsets: Tensor) -> Tensor:
        """Bias at offsets query - key, shape (..., 2), in tokens, fractional ones too: (heads, ...)."""

    def between(self, queries: Tensor, keys: Tensor) -> Tensor:
        """See base class."""
        return self.at(queries.unsqueeze(1) - keys.unsqueeze(0))


class BiasState:
    """What a bias was computed from, to be compared with what it is computed from later.

    Whoever wrote to a parameter may have left no trace but its value: versions do not count writes through `.data` or
    to inference tensors, and addresses are used again.

    Args:
        bias: as it is now; None: there is none.

    Raises:
        RuntimeError: if the parameters have no values that can be read, as on the meta device or within
            `torch.func.vmap`.
    """

    def __init__(self, bias: PositionBias | None) -> None:
        self.settings = _settings(bias)
        self.values = [] if bias is None else [tensor.detach().clone() for tensor in bias.parameters()]
        self.is_of(bias)

    def is_of(self, bias: PositionBias | None) -> bool:
        """Whether a bias has the same settings and, bit by bit, the same parameters.

        Raises:
            RuntimeError: as the class.
        """
        if _settings(bias) != self.settings:
            return False
        present = () if bias is None else bias.parameters()
        return len(present) == len(self.values) and all(map(_same_bits, present, self.values))


def _settings(bias: PositionBias | None) -> tuple[Any, ...]:
    return () if bias is None else (type(bias), *bias.options)


def _same_bits(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.device != other.device:
        return False
    # As whole numbers: NaN does not equal itself, nor -0 differ from 0.
    whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[one.itemsize]
    return torch.equal(one.detach().view(whole), other.view(whole))


@dataclasses.dataclass(frozen=True, eq=False)
class TableBias(OffsetBias):
    """Swin's relative position bias: a table of one value per head and integer offset, interpolated in between.

    Args:
        table: shape ((2h - 1)·(2w - 1), heads), rows of offsets first, as upstream stores it.
        window: h and w of the table.
        stretch: factors from an offset in tokens to one in the table; 1 leaves offsets as they are. Offsets beyond the
            table take its edge's value.
    """

    table: Tensor
    window: tuple[int, int]
    stretch: tuple[float, float] = (1.0, 1.0)

    def at(self, offsets: Tensor) -> Tensor:
        """Bias at offsets query - key, shape (..., 2), bilinear between the table's entries: (heads, ...)."""
        rows, columns = (2 * side - 1 for side in self.window)
        table = self.table.unflatten(0, (rows, columns))
        lows, weights = [], []
        for axis, count in enumerate((rows, columns)):
            place = (offsets[..., axis] * self.stretch[axis] + (count - 1) / 2).clamp(0, count - 1)
            low = place.floor().long().clamp_max(max(count - 2, 0))
            lows.append(low)
            weights.append((place - low).to(table.dtype).unsqueeze(-1))
        (top, left), (down, right) = lows, weights
        # Which way it is depends on values, which are not known while a program is traced.
        if not torch.compiler.is_compiling() and bool((down == 0).all()) and bool((right == 0).all()):
            return table[top, left].movedim(-1, 0)
        bottom, far = (top + 1).clamp_max(rows - 1), (left + 1).clamp_max(columns - 1)
        upper = torch.lerp(table[top, left], table[top, far], right)
        lower = torch.lerp(table[bottom, left], table[bottom, far], right)
        return torch.lerp(upper, lower, down).movedim(-1, 0)

    def parameters(self) -> tuple[Tensor, ...]:
        """The table, shape as given."""
        return (self.table,)

    @property
    def options(self) -> tuple[Any, ...]:
        """The trained window and the stretch of offsets."""
        return (self.window, self.stretch)


@dataclasses.dataclass(frozen=True, eq=False)
class LogOffsetBias(OffsetBias):
    """DehazeFormer's bias: a small network on sign(x)·log(1 + |x|) of each coordinate of the offset.

    Args:
        network: maps (..., 2) to (..., heads).
        stretch: factors from an offset in tokens to one that the network was trained for; 1 leaves offsets as they are.
    """

    network: torch.nn.Module
    stretch: tuple[float, float] = (1.0, 1.0)

    def at(self, offsets: Tensor) -> Tensor:
        """Bias at offsets query - key, shape (..., 2): (heads, ...), contiguous."""
        first = next(self.network.parameters())
        scaled = offsets * offsets.new_tensor(self.stretch)
        bias = self.network((scaled.sign() * torch.log1p(scaled.abs())).to(first.dtype))
        return bias.movedim(-1, 0).contiguous()

    def parameters(self) -> tuple[Tensor, ...]:
        """Weights and biases of the network, and its buffers."""
        return (*self.network.parameters(), *self.network.buffers())

    @property
    def options(self) -> tuple[Any, ...]:
        """The stretch of offsets, and the network's layers with their settings."""
        return (self.stretch, str(self.network), *(module.training for module in self.network.modules()))


@dataclasses.dataclass(frozen=True, eq=False)
class DenseBias(PositionBias):
    """A bias of every pair of tokens, as FDAT and BEiT have it, or what is no function of the offset.

    Args:
        dense: of queries to keys, (heads or 1, N, N), interpolated between tokens.
        window: h and w, in tokens; N = h·w.
    """

    dense: Tensor
    window: tuple[int, int]

    def between(self, queries: Tensor, keys: Tensor) -> Tensor:
        """See base class."""
        left, right = self._numbers(queries), self._numbers(keys)
        if left is not None and right is not None:
            return self.dense[:, left][:, :, right]
        return self._weights(queries) @ self.dense @ self._weights(keys).mT

    def parameters(self) -> tuple[Tensor, ...]:
        """The bias, shape as given."""
        return (self.dense,)

    @property
    def options(self) -> tuple[Any, ...]:
        """The window."""
        return (self.window,)

    def _numbers(self, positions: Tensor) -> Tensor | None:
        """Numbers of tokens at positions (n, 2); None: not all of them are tokens'."""
        if not torch.equal(positions, positions.round()):
            return None
        return (positions[:, 0] * self.window[1] + positions[:, 1]).long()

    def _weights(self, positions: Tensor) -> Tensor:
        """Bilinear weights (n, N) of all tokens at positions (n, 2)."""
        rows, columns = (
            (1 - (positions[:, axis, None] - torch.arange(side, device=positions.device)).abs()).clamp_min(0)
            for axis, side in enumerate(self.window)
        )
        return (rows.unsqueeze(2) * columns.unsqueeze(1)).flatten(1).to(self.dense)
