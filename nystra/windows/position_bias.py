"""Position bias between any positions, fractional ones too, from the parameters of a checkpoint."""

from __future__ import annotations

import abc
import dataclasses
from itertools import product
from typing import Any

import torch
from torch import Tensor

from glmha.shared.graphs import is_recorded


class PositionBias(abc.ABC):
    """A bias of the logits that depends on the positions of query and key."""

    @abc.abstractmethod
    def between(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Bias between positions (n, axes) and (m, axes), in tokens, fractional ones too: (heads, n, m)."""

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
        """Bias at offsets query - key, shape (..., axes), in tokens, fractional ones too: (heads, ...)."""

    def between(self, queries: Tensor, keys: Tensor) -> Tensor:
        """See base class."""
        return self.at(queries.unsqueeze(1) - keys.unsqueeze(0))


def _heads_first(bias: Tensor) -> Tensor:
    # Exporters know no negative dimension here.
    return bias.movedim(bias.dim() - 1, 0)


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
        table: shape ((2h - 1)·(2w - 1), heads), rows of offsets first, as upstream stores it; of windows over frames
            ((2t - 1)·(2h - 1)·(2w - 1), heads).
        window: sides of the windows that the table is of, h and w.
        stretch: factors from an offset in tokens to one in the table; empty leaves offsets as they are. Offsets beyond
            the table take its edge's value.
    """

    table: Tensor
    window: tuple[int, ...]
    stretch: tuple[float, ...] = ()

    def at(self, offsets: Tensor) -> Tensor:
        """Bias at offsets query - key, shape (..., axes), linear between the table's entries: (heads, ...)."""
        counts = [2 * side - 1 for side in self.window]
        table = self.table.unflatten(0, counts)
        lows, highs, weights = [], [], []
        for axis, count in enumerate(counts):
            factor = self.stretch[axis] if self.stretch else 1.0
            place = (offsets[..., axis] * factor + (count - 1) / 2).clamp(0, count - 1)
            low = place.floor().long().clamp_max(max(count - 2, 0))
            lows.append(low)
            highs.append((low + 1).clamp_max(count - 1))
            weights.append((place - low).to(table.dtype).unsqueeze(-1))
        # Which way it is depends on values, which are not known while a program is traced.
        traced = torch.compiler.is_compiling() or is_recorded()
        if not traced and all(bool((weight == 0).all()) for weight in weights):
            return _heads_first(table[tuple(lows)])
        corners = [table[places] for places in product(*zip(lows, highs, strict=True))]
        for weight in reversed(weights):
            corners = [torch.lerp(*pair, weight) for pair in zip(corners[::2], corners[1::2], strict=True)]
        return _heads_first(corners[0])

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
    stretch: tuple[float, ...] = (1.0, 1.0)

    def at(self, offsets: Tensor) -> Tensor:
        """Bias at offsets query - key, shape (..., 2): (heads, ...), contiguous."""
        first = next(self.network.parameters())
        scaled = offsets * offsets.new_tensor(self.stretch)
        bias = self.network((scaled.sign() * torch.log1p(scaled.abs())).to(first.dtype))
        return _heads_first(bias).contiguous()

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
        window: its sides, h and w, in tokens; N = h·w.
    """

    dense: Tensor
    window: tuple[int, ...]

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
        """Numbers of tokens at positions (n, axes); None: not all of them are tokens'."""
        if is_recorded() or not torch.equal(positions, positions.round()):
            return None
        numbers = positions[:, 0]
        for axis, side in enumerate(self.window[1:], 1):
            numbers = numbers * side + positions[:, axis]
        return numbers.long()

    def _weights(self, positions: Tensor) -> Tensor:
        """Linear weights (n, N) of all tokens at positions (n, axes)."""
        weights = positions.new_ones(len(positions), 1)
        for axis, side in enumerate(self.window):
            along = 1 - (positions[:, axis, None] - torch.arange(side, device=positions.device)).abs()
            weights = (weights.unsqueeze(2) * along.clamp_min(0).unsqueeze(1)).flatten(1)
        return weights.to(self.dense)
