"""Landmark-centred pooling: linear-time window attention without an inverse."""

import dataclasses
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from nystra.cells import Cells, cell_grid
from nystra.functional import add, at_least_float32, pool, weighted_cells
from nystra.geometry import WindowKind
from nystra.kernels import Cost, Kernel


@dataclasses.dataclass(frozen=True)
class LandmarkPooling(Kernel):
    """Landmark-centred pooling: far cells as summaries made for the query's neighbourhood, near tokens exactly.

    Queries lie in m blocks, keys in s cells nested in them. A block's mean query q̄ weighs the keys of each cell into
    one key k̃, one value ṽ and a mass M; a token of the block sees the summary with the logit q·k̃ + (M - q̄·k̃) + Δ,
    which is exact at q = q̄ but for Δ, the static difference between the token's and the block's bias. Near tokens are
    attended exactly, in the same softmax. No inverse, no constant to tune: weights are positive, so that every output
    is a convex combination of values and finite for every input.

    Args:
        landmarks: m, blocks of queries; must divide the window.
        cells: s, cells of keys; a multiple of m along both axes.
        near: exact tokens: "none", "own" (the token's cell), "cross" (that and its four neighbours) or "block" (the
            token's block).

    Raises:
        ValueError: if a number is below 1, `cells` is no multiple of `landmarks` or `near` is unknown.
    """

    landmarks: int = 16
    cells: int = 16
    near: Literal["none", "own", "cross", "block"] = "cross"

    def __post_init__(self) -> None:
        """Refuse what no window could be attended with."""
        if self.landmarks < 1 or self.cells < 1 or self.cells % self.landmarks:
            raise ValueError(
                f"cells ({self.cells}) must be a positive multiple of landmarks ({self.landmarks}): cells lie in blocks"
            )
        if self.near not in ("none", "own", "cross", "block"):
            raise ValueError(f"near ({self.near}) must be none, own, cross or block")

    def layout(self, window: tuple[int, int]) -> Cells:
        """Blocks and cells of a window.

        Raises:
            ValueError: if they do not divide it.
        """
        blocks = cell_grid(window, self.landmarks)
        inner = cell_grid(
            (window[0] // blocks[0], window[1] // blocks[1]), self.cells // self.landmarks, "cells of a block"
        )
        return Cells(window, blocks, (blocks[0] * inner[0], blocks[1] * inner[1]))

    def cost(self, window: tuple[int, int], channels: int) -> Cost:
        """See base class: 3md + 2dT, T the mean number of summaries and exact keys that a token sees."""
        layout = self.layout(window)
        tokens = window[0] * window[1]
        groups, most = self._near(layout).shape
        exact = int((self._near(layout) >= 0).sum()) / groups
        seen = self.cells - exact + exact * tokens / self.cells
        floats = tokens * (self.cells + most * tokens // self.cells)
        return Cost(3 * self.landmarks * channels + 2 * channels * seen, floats)

    def tables(self, kind: WindowKind, dtype: torch.dtype) -> "PoolingTables":
        """Mean bias β of blocks to keys, shift Δ of tokens to summaries, bias of near tokens."""
        layout = self.layout(kind.window)
        blocks, cells = layout.num_blocks, layout.num_cells
        positions = layout.order(kind.positions())
        near = self._near(layout).to(kind.device)
        tokens_of_block = positions.unflatten(0, (blocks, -1))
        means, shifts, near_biases = [], [], []
        # Block by block: N×N values of all heads would not fit for large windows.
        for block, tokens in enumerate(tokens_of_block):
            if kind.has_bias:
                bias = at_least_float32(kind.logits(tokens, positions))
                mean = bias.mean(1)
                by_cell = bias.unflatten(2, (cells, -1))
                shift = by_cell.logsumexp(3) - mean.unflatten(1, (cells, -1)).logsumexp(2).unsqueeze(1)
            else:
                bias = torch.zeros(1, len(tokens), len(positions), device=kind.device)
                by_cell, mean = bias.unflatten(2, (cells, -1)), bias.mean(1)
                shift = torch.zeros(1, len(tokens), cells, device=kind.device)
            # The block's groups of tokens with the same near cells: its cells, or itself.
            groups = len(near) // blocks
            numbers = near[block * groups : (block + 1) * groups]
            known = numbers >= 0
            seen = torch.zeros(groups, cells, dtype=torch.bool, device=kind.device)
            for group, row in enumerate(numbers):
                seen[group, row[row >= 0]] = True
            shift = shift.unflatten(1, (groups, -1)).masked_fill(seen[None, :, None], -torch.inf)
            shifts.append(shift.flatten(1, 2))
            means.append(mean)
            rows = by_cell.unflatten(1, (groups, -1))
            picked = torch.stack([rows[:, group][:, :, row.clamp_min(0)] for group, row in enumerate(numbers)], 1)
            picked = picked.masked_fill(~known[None, :, None, :, None], -torch.inf)
            near_biases.append(picked.flatten(3))
        wide = torch.promote_types(dtype, torch.float32)
        return PoolingTables(
            layout,
            torch.stack(means, 1).to(wide) if kind.has_bias else None,
            torch.stack(shifts, 1).to(wide),
            torch.cat(near_biases, 1).to(wide),
            near,
        )

    def _near(self, layout: Cells) -> Tensor:
        """Numbers of the cells that each group of tokens sees exactly, (groups, n); -1: none. Groups divide blocks."""
        blocks, cells = layout.num_blocks, layout.num_cells
        if self.near == "cross":
            return layout.neighbours()
        if self.near == "own":
            return torch.arange(cells).unsqueeze(1)
        if self.near == "block":
            return torch.arange(cells).unflatten(0, (blocks, -1))
        return torch.empty(blocks, 0, dtype=torch.long)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: "PoolingTables") -> Tensor:
        """See base class."""
        layout = tables.layout
        blocks, cells = layout.num_blocks, layout.num_cells
        query, key, value = (layout.gather(tensor) for tensor in (query, key, value))
        channels = key.shape[-1]
        landmark = pool(query, blocks)
        masses = add(at_least_float32(landmark @ key.transpose(2, 3)), tables.mean)
        masses = masses.unflatten(3, (cells, -1))
        mass = masses.logsumexp(4)
        weights = (masses - mass.unsqueeze(4)).exp()
        summaries = weighted_cells(weights.to(key.dtype), torch.cat([key, value], 3).unflatten(2, (cells, -1)))
        far_key, far_value = summaries.split([channels, value.shape[-1]], 4)
        # (W, h, m, T, s): tokens of a block against its summaries.
        offset = mass - at_least_float32(far_key @ landmark.unsqueeze(4)).squeeze(4)
        far = at_least_float32(query.unflatten(2, (blocks, -1)) @ far_key.transpose(3, 4))
        far = (far + offset.unsqueeze(3) + tables.shift).flatten(2, 3)
        groups, count = tables.near.shape
        if not count:
            probabilities = far.softmax(3).to(value.dtype)
            return layout.scatter((probabilities.unflatten(2, (blocks, -1)) @ far_value).flatten(2, 3))
        near_key, near_value = (self._take(tensor, tables.near, cells) for tensor in (key, value))
        near = at_least_float32(query.unflatten(2, (groups, -1)) @ near_key.transpose(3, 4)) + tables.near_bias
        probabilities = torch.cat([far, near.flatten(2, 3)], 3).softmax(3).to(value.dtype)
        far_part, near_part = probabilities.split([cells, near.shape[-1]], 3)
        result = (far_part.unflatten(2, (blocks, -1)) @ far_value).flatten(2, 3)
        result = result + (near_part.unflatten(2, (groups, -1)) @ near_value).flatten(2, 3)
        return layout.scatter(result)

    def _take(self, tokens: Tensor, near: Tensor, cells: int) -> Tensor:
        """Tokens of the near cells of each group: (W, h, N, d) → (W, h, groups, n·t, d)."""
        by_cell = tokens.unflatten(2, (cells, -1))
        if self.near == "own":
            return by_cell
        if self.near == "block":
            return tokens.unflatten(2, (near.shape[0], -1))
        return by_cell[:, :, near.clamp_min(0)].flatten(3, 4)


class PoolingTables(NamedTuple):
    """Static tables of landmark-centred pooling for one kind of window.

    Attributes:
        layout: blocks and cells.
        mean: β, (heads or 1, m, N); None: no bias.
        shift: Δ, (heads or 1, m, T, s); minus infinity where a summary's tokens are attended exactly.
        near_bias: (heads or 1, groups, tokens of a group, exact tokens), minus infinity beyond the window's edge.
        near: numbers of the cells that each group sees exactly, (groups, n), -1 for none.
    """

    layout: Cells
    mean: Tensor | None
    shift: Tensor
    near_bias: Tensor
    near: Tensor
