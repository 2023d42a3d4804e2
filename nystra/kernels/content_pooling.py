"""Content pooling: landmark-centred pooling whose blocks and cells follow what tokens hold, before where they lie."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from glmha.shared.precision import at_least_float32
from nystra.functional import low_rank_factors
from nystra.kernels.base import Cost, Kernel
from nystra.programs.cpu import content_pooling as native
from nystra.programs.cpu.library import usable
from nystra.windows.clusters import Groups, balanced_order, inverse, rows, splits
from nystra.windows.geometry import MASKED, WindowGeometry, WindowKind
from nystra.windows.partition import Cut
from nystra.windows.position_bias import DenseBias

# Least spread of a cell, so that its logarithm is finite, and of channels that others are compared with.
SPREAD_EPSILON = 1e-12


@dataclasses.dataclass(frozen=True)
class ContentPooling(Kernel):
    """Landmark-centred pooling of clusters by content, and by place as far as a position bias tells tokens apart.

    Cells that follow content hold tokens that are alike, wherever these lie::

        tokens in the window, of kinds a, b, c    a b a c b c a b
        cells by position, `LandmarkPooling`      a b|a c|b c|a b    every summary mixes kinds
        cells by content, `ContentPooling`        a a|a b|b b|c c    one of four does

    Queries are put into m blocks, and keys with their values into s cells, all of nearly one size, each by a balanced
    tree (`nystra.windows.clusters`). As in `LandmarkPooling`, a block's mean query q̄ weighs the keys of each cell into
    one key k̃, one value ṽ and a mass M. A token of the block sees this summary with the logit q·k̃ + (M - q̄·k̃). Each
    block attends exactly to the cells whose summaries would be worst: those of the largest exp(M)·(spread of
    keys)·(spread of values), with which the error of second order grows. Every output is a convex combination of
    values, finite for every input.

    On processors a native program does this where no gradient is asked for. Its outputs are those of plain torch up to
    rounding, which decides now and then which of two like tokens belongs to a cluster.

    A position bias enters exactly where cells are attended exactly. In summaries it enters by a low-rank factorisation
    of its table, as further channels of queries and keys. These count in the trees by how much they move logits: where
    the bias is strong, clusters are neighbours, and where it is weak, they are alike. Masks of windows enter exactly.

    Args:
        landmarks: m, blocks of queries. None: 16.
        cells: s, cells of keys. None: 2√N in a window of N tokens, but at most 128 unless a cell had more than 128
            tokens then.
        near: number of cells that each block attends exactly, 0 to s; s is exact attention. None: as many as hold N/8
            tokens, but at least 16 and at most 128 tokens, and one cell.
        bias_rank: channels for the position bias in summaries, >= 1; unused where there is none.

    Numbers that are None follow the window: where those of blocks and cells would not divide N, they are powers of two
    near to it. Clusters differ in size by a token where their number does not divide N, and there are at most N of
    them: `fitted` tells the numbers.

    Raises:
        ValueError: if a number is out of range.

    Examples:
        >>> import torch
        >>> from nystra import ContentPooling, Softmax, WindowGeometry
        >>> query, key, value = torch.rand(3, 1, 2, 64, 8)
        >>> geometry = WindowGeometry((8, 8))
        >>> ContentPooling(landmarks=8, cells=16, near=2)(query, key, value, geometry).shape
        torch.Size([1, 2, 64, 8])
        >>> every_cell = ContentPooling(landmarks=8, cells=16, near=16)(query, key, value, geometry)
        >>> torch.allclose(every_cell, Softmax()(query, key, value, geometry), atol=1e-5)
        True
    """

    landmarks: int | None = None
    cells: int | None = None
    near: int | None = None
    bias_rank: int = 16

    def __post_init__(self) -> None:
        """Refuse numbers that fit no window."""
        if any(number is not None and number < 1 for number in (self.landmarks, self.cells, self.bias_rank)):
            raise ValueError(
                f"landmarks ({self.landmarks}), cells ({self.cells}) and bias_rank ({self.bias_rank}) must be at "
                "least 1"
            )
        if self.near is not None and (self.near < 0 or (self.cells is not None and self.near > self.cells)):
            raise ValueError(f"near ({self.near}) must be a number of cells from 0 to cells ({self.cells})")

    def fitted(self, window: tuple[int, ...]) -> "ContentPooling":
        """See base class."""
        landmarks, cells, near = self._sizes(window)
        return dataclasses.replace(self, landmarks=landmarks, cells=cells, near=near)

    def cost(self, window: tuple[int, ...], channels: int) -> Cost:
        """Cost without bias: both trees, 3md for the summaries, their spreads, 2dT for the T keys that a token sees."""
        tokens = math.prod(window)
        landmarks, cells, near = self._sizes(window)
        trees = 3 * channels * (len(splits(landmarks, 2)) + 2 * len(splits(cells, 4)))
        spreads = 2 * (channels + landmarks) if near else 0
        seen = cells - near + near * tokens / cells
        floats = landmarks * tokens + round(tokens * (cells + near * tokens / cells))
        return Cost(trees + spreads + 3 * landmarks * channels + 2 * channels * seen, floats)

    def _sizes(self, window: tuple[int, ...]) -> tuple[int, int, int]:
        """Blocks, cells and near cells in a window."""
        tokens = math.prod(window)
        landmarks = min(self.landmarks or _fitting(16, tokens), tokens)
        cells = min(self.cells or _fitting(max(min(2 * math.sqrt(tokens), 128), tokens / 128), tokens), tokens)
        near = self.near
        if near is None:
            near = max(round(min(max(tokens / 8, 16), 128) * cells / tokens), 1)
        return landmarks, cells, min(near, cells)

    def tables(self, kind: WindowKind, dtype: torch.dtype) -> "ContentTables":
        """Sizes, and further channels of queries and keys whose products are mask and bias."""
        sizes = self._sizes(kind.window)
        if not kind.has_bias:
            return ContentTables(*sizes, None)
        positions = kind.positions()
        channels = [_mask_channels(kind.regions(positions, axis)) for axis in kind.split_axes]
        masks = sum(queries.shape[2] for queries, _ in channels)
        exact = kind.offset_logits()
        by_offset = exact is not None
        if kind.bias is not None:
            pairs = dataclasses.replace(kind, split=(None,) * len(kind.window)).all_logits()
            channels.append(low_rank_factors(pairs, self.bias_rank))
            exact = at_least_float32(pairs if exact is None else exact)
        heads = max(len(queries) for queries, _ in channels)
        queries, keys = (
            torch.cat([part.expand(heads, -1, -1) for part in parts], 2).to(dtype).contiguous()
            for parts in zip(*channels, strict=True)
        )
        return ContentTables(*sizes, BiasChannels(queries, keys, masks, exact, by_offset))

    def attend_natively(
        self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, cut: Cut
    ) -> Tensor | None:
        """See base class."""
        return self._run_program(query, key, value, geometry, cut, masses=False)

    def masses_natively(
        self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, cut: Cut
    ) -> Tensor | None:
        """See base class."""
        return self._run_program(query, key, value, geometry, cut, masses=True)

    def _run_program(
        self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, cut: Cut, *, masses: bool
    ) -> Tensor | None:
        # The program knows the bias of rows and columns alone.
        other = isinstance(geometry.bias, DenseBias) or (geometry.bias is not None and len(geometry.window) > 2)
        if other or usable(query, key, value, parameters=geometry.parameters) is None:
            return None
        sizes = self._sizes(geometry.window)
        kinds = [kind for _, kind in geometry.kinds(query.device)]
        further = geometry.table(
            (self, geometry.kind_counts),
            kinds[-1],
            query.dtype,
            lambda: native.Further.of([self.tables(kind, torch.float32).further for kind in kinds]),
        )
        return native.attend(query, key, value, further, geometry, cut, sizes, masses=masses)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: "ContentTables") -> Tensor:
        """See base class."""
        return self._attend(query, key, value, tables)[0]

    def attend_with_masses(
        self, query: Tensor, key: Tensor, value: Tensor, tables: "ContentTables"
    ) -> tuple[Tensor, Tensor]:
        """See base class: of what the softmax holds, summaries and exact tokens."""
        outputs, logits, in_order = self._attend(query, key, value, tables)
        return outputs, in_order(logits.logsumexp(4, keepdim=True))

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, tables: "ContentTables"
    ) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        """Outputs, logits by blocks of queries (W, h, m, n, keys), and what brings these into the map's order."""
        landmarks, cells, near_count, further = tables
        channels = query.shape[3]
        if further is not None:
            query, key = (
                torch.cat([tokens, more.expand(*tokens.shape[:2], -1, -1)], 3)
                for tokens, more in ((query, further.query), (key, further.key))
            )
        block_groups, cell_groups = (Groups(query.shape[2], number) for number in (landmarks, cells))
        by_query = balanced_order(_comparable_queries(query, key, channels), landmarks)
        by_key = balanced_order(_comparable_pairs(query, key, value, channels), cells, ways=4)
        back, by_query, by_key = inverse(by_query), block_groups.spread(by_query), cell_groups.spread(by_key)
        query, key, value = rows(query, by_query), rows(key, by_key), rows(value, by_key)

        def in_order(blocks: Tensor) -> Tensor:
            return rows(block_groups.joined(blocks.flatten(2, 3)), back)

        landmark = block_groups.means(query)
        key_cells, value_cells = (tokens.unflatten(2, (cells, -1)) for tokens in (key, value))
        # Cell by cell, (W, h, s, m, t).
        masses = at_least_float32(landmark.unsqueeze(2) @ key_cells.transpose(3, 4))
        repeats = None if cell_groups.even else cell_groups.repeats(key.device)
        if repeats is not None:
            masses = masses.masked_fill(repeats.unsqueeze(1), -torch.inf)
        weights = masses.softmax(4).to(key.dtype)
        far_key, far_value = ((weights @ tokens).transpose(2, 3) for tokens in (key_cells, value_cells))
        mass = masses.logsumexp(4).transpose(2, 3)
        offset = mass - at_least_float32(far_key @ landmark.unsqueeze(4)).squeeze(4)
        blocks = query.unflatten(2, (landmarks, -1))
        logits = at_least_float32(blocks @ far_key.transpose(3, 4)) + offset.unsqueeze(3)
        if not near_count:
            return in_order(logits.softmax(4).to(value.dtype) @ far_value), logits, in_order
        with torch.no_grad():
            spread = _log_spread(weights, key_cells, far_key) + _log_spread(weights, value_cells, far_value)
            chosen = (mass + 0.5 * spread).topk(near_count, 3).indices
        near_key, near_value = (_take(tokens, cells, chosen) for tokens in (key, value))
        if further is None or further.bias is None:
            near = at_least_float32(blocks @ near_key.transpose(3, 4))
        else:
            exact = channels + further.masks
            near = at_least_float32(blocks[..., :exact] @ near_key[..., :exact].transpose(3, 4))
            query_places, key_places = _places(further)
            near_places = _take(key_places[by_key].unsqueeze(3), cells, chosen).squeeze(4)
            near = near + _near_bias(further.bias, query_places[by_query].unflatten(2, (landmarks, -1)), near_places)
        if repeats is not None:
            near = near.masked_fill(repeats[chosen].flatten(3).unsqueeze(3), -torch.inf)
        # Cells that are attended exactly count once: their summaries get no weight.
        seen = torch.zeros_like(mass).scatter_(3, chosen, -torch.inf)
        logits = torch.cat([logits + seen.unsqueeze(3), near], 4)
        far_part, near_part = logits.softmax(4).to(value.dtype).split([cells, near.shape[4]], 4)
        return in_order(far_part @ far_value + near_part @ near_value), logits, in_order


class BiasChannels(NamedTuple):
    """Channels beside a head's own whose products are mask and bias.

    Attributes:
        query: (heads or 1, N, masks + r), those of the mask first.
        key: as queries.
        masks: number of channels for the mask.
        bias: of all offsets from key to query, (heads, 2h - 1, 2w - 1), the lowest first; of all pairs, (heads, N, N),
            where it depends on more than the offset; None: there is none.
        by_offset: whether `bias` is of offsets.
    """

    query: Tensor
    key: Tensor
    masks: int
    bias: Tensor | None
    by_offset: bool


class ContentTables(NamedTuple):
    """Tables of content pooling for one kind of window.

    Attributes:
        landmarks: blocks of queries.
        cells: of keys.
        near: cells that a block attends exactly.
        further: channels of bias and mask; None: there is neither.
    """

    landmarks: int
    cells: int
    near: int
    further: BiasChannels | None


def _fitting(wanted: float, tokens: int) -> int:
    """A wanted number of clusters where it divides the tokens, else the power of two that is nearest by ratio."""
    return int(wanted) if tokens % wanted == 0 else 2 ** round(math.log2(wanted))


def _take(tokens: Tensor, cells: int, chosen: Tensor) -> Tensor:
    """Tokens of each block's chosen cells: (W, h, N, d), (W, h, m, r) → (W, h, m, r·t, d)."""
    by_cell = tokens.unflatten(2, (cells, -1)).flatten(3)
    picked = rows(by_cell, chosen.flatten(2))
    return picked.unflatten(2, chosen.shape[2:]).unflatten(4, (-1, tokens.shape[3])).flatten(3, 4)


def _mask_channels(region: Tensor) -> tuple[Tensor, Tensor]:
    """Channels (1, N, 2) whose products are 0 within a region and `MASKED` between two; region: booleans, (N,)."""
    side = 2 * region.float() - 1
    root = (-MASKED / 2) ** 0.5
    constant = torch.full_like(side, root)
    queries, keys = torch.stack([root * side, -constant], 1), torch.stack([root * side, constant], 1)
    return queries.unsqueeze(0), keys.unsqueeze(0)


def _comparable_queries(query: Tensor, key: Tensor, own: int) -> Tensor:
    """Queries (W, h, N, c) whose channels beyond a head's own count by how much they move logits, as those do."""
    key = at_least_float32(key.detach())
    return at_least_float32(query.detach()) * _weights(key.var(2, correction=0), own)


def _comparable_pairs(query: Tensor, key: Tensor, value: Tensor, own: int) -> Tensor:
    """Keys, weighted as queries are, and values, scaled to the keys' spread in each window and head: (W, h, N, n)."""
    query, key, value = (at_least_float32(tokens.detach()) for tokens in (query, key, value))
    spread, other = (tokens.var(2, correction=0).mean(2)[..., None, None] for tokens in (key[..., :own], value))
    values = value * (spread / other.clamp_min(SPREAD_EPSILON)).sqrt()
    return torch.cat([key * _weights(query.square().mean(2), own), values], 3)


def _weights(power: Tensor, own: int) -> Tensor:
    """Weights of channels, 1 for a head's own, by the power of those that they meet: (W, h, c) → (W, h, 1, c)."""
    further = power[..., own:] / power[..., :own].mean(2, keepdim=True).clamp_min(SPREAD_EPSILON)
    return F.pad(further.sqrt(), (own, 0), value=1.0).unsqueeze(2)


def _places(further: BiasChannels) -> tuple[Tensor, Tensor]:
    """Numbers of a window's tokens as queries and as keys, (N,), whose sums are places in the (flat) bias of a head."""
    bias = further.bias
    assert bias is not None, "the caller asks before"
    if not further.by_offset:
        tokens = torch.arange(bias.shape[2], device=bias.device)
        return bias.shape[1] * tokens, tokens
    places = torch.zeros(1, dtype=torch.long, device=bias.device)
    for offsets in bias.shape[1:]:
        places = (offsets * places.unsqueeze(1) + torch.arange((offsets + 1) // 2, device=bias.device)).flatten()
    return places + places[-1], -places


def _near_bias(bias: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """Bias at the places of blocks' queries (W, h, m, n) and keys (W, h, m, k), see `_places`: (W, h, m, n, k)."""
    first = bias[0].numel() * torch.arange(len(bias), device=bias.device)
    return bias.flatten()[(queries + first.view(-1, 1, 1)).unsqueeze(4) + keys.unsqueeze(3)]


def _log_spread(weights: Tensor, cells: Tensor, mean: Tensor) -> Tensor:
    """Logarithm of the weighted variance of a cell's tokens around their mean, (W, h, m, s)."""
    squares = at_least_float32(cells).square().sum(4, keepdim=True)
    square = (at_least_float32(weights) @ squares).squeeze(4).transpose(2, 3)
    return (square - at_least_float32(mean).square().sum(4)).clamp_min(SPREAD_EPSILON).log()
