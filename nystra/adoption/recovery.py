"""Geometry of windows from what a host added to its products: the window, the table of biases, the shift masks.

Neither the grid of windows nor the shift need be known: a bias that is laid out from a table of offsets tells the
window, and a mask between the two sides of a row and a column tells the shift. Every guess is checked entry by entry.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import torch
from torch import Tensor

from nystra.adoption.product import Product
from nystra.adoption.terms import MASKED_BELOW, matrices, sort_terms, told_apart
from nystra.functional import differentiated
from nystra.windows.geometry import MASKED, WindowGeometry
from nystra.windows.position_bias import DenseBias, PositionBias, TableBias

Window = tuple[int, int]
Split = tuple[int | None, int | None]
# Recoveries of a product, for images of different sizes.
MOST_KEPT = 4
# Beside such numbers the product itself is rounded away, as for queries from which a host hides all keys.
NOTHING_SEEN = -1e3
# Range of logits, bias included, up to which masks of -100 hide what lower ones hide: e⁻²⁰ of a weight is left.
WIDEST = 80.0
# Entries of a bias of pairs, masks included, are kept down to this.
LOWEST = 3 * MASKED
MOST_GROUPS = 16
"""Largest number of kinds of windows; products with more are computed as the host does."""


@dataclasses.dataclass
class Group:
    """Windows with the same bias and mask, or all windows of rolled maps.

    Attributes:
        members: numbers of the windows; None: all.
        grid: of windows in a map.
        shift: by which maps were rolled.
        hidden: pairs of tokens that a mask hides which is none of rolled maps, (N, N); None: there is none.
        bias: of the windows.
        tables: what kernels keep.
    """

    members: Tensor | None
    grid: tuple[int, int]
    shift: tuple[int, int]
    hidden: Tensor | None
    bias: PositionBias | None
    tables: dict[Any, Any] = dataclasses.field(default_factory=dict)


class Recovered:
    """What was recovered of the terms of a product.

    Attributes:
        window: h and w, in tokens; N = h·w.
        arrangement: which leading axes are windows and which are heads.
        groups: windows by kind; together they are all windows.
        reason: why kernels cannot follow, None if they can.
        bias: "table", "dense" or "none", for people.
        hint: the window that was told.
    """

    def __init__(self, product: Product, hint: Window | None) -> None:
        self.hint = hint
        self._shape = _shape(product)
        self.arrangement, self._terms = sort_terms(product)
        self.groups: list[Group] = []
        self.reason: str | None = None
        self.bias = "none"
        tokens, keys = product.sides
        side = math.isqrt(tokens)
        self.window: Window = hint or ((side, side) if side**2 == tokens else (1, tokens))
        if tokens != keys:
            self.reason = f"{keys} keys for {tokens} queries"
            return
        self._recover(hint)
        self._deep, self._range = self._depth()

    def is_of(self, product: Product) -> bool:
        """Whether another product has the same shape and the same terms, bit by bit."""
        return _shape(product) == self._shape and all(
            term.rows.are(matrices(product, term.place).detach()) for term in self._terms
        )

    def obstacle(self, product: Product, added: float = 0.0) -> str | None:
        """Why kernels cannot follow the host's arithmetic for a product of these terms; None: they can.

        Args:
            product: of queries and keys.
            added: range of a bias that comes beside the terms.
        """
        if self.reason is not None:
            return self.reason
        if differentiated(term for _, term in product.terms):
            masks = [product.terms[term.place][1] for term in self._terms if term.kind == "mask"]
            biases = [term for term in self._terms if term.kind == "bias"]
            apart = all(term.live(product) is not None for term in biases)
            if len(biases) + len(masks) < len(self._terms) or not apart or differentiated(masks):
                return "gradients of terms that are neither biases nor masks"
        if self._deep and not product.range(WIDEST / 2) + self._range + added <= WIDEST:
            return "logits so far apart that it matters how low the masks are"
        return None

    def geometries(self, product: Product) -> list[tuple[Tensor | None, WindowGeometry]]:
        """Numbers of windows (None: all) and their geometry, if there is no `obstacle`."""
        dense: Tensor | None = None
        if live := differentiated(term for _, term in product.terms):
            dense = _sum([term.live(product) for term in self._terms if term.kind == "bias"])
        result = []
        for group in self.groups:
            bias, tables = group.bias, group.tables
            if live and dense is not None:
                # Gradients must reach every entry of what the host added, which may be a table of pairs that just now
                # looks like one of offsets.
                hidden = 0 if group.hidden is None else MASKED * group.hidden.to(dense.dtype)
                bias, tables = DenseBias(_bounded(dense + hidden), self.window), {}
            result.append((group.members, WindowGeometry(self.window, group.grid, group.shift, bias, tables)))
        return result

    def forget_tables(self) -> None:
        """Free what kernels kept."""
        for group in self.groups:
            group.tables.clear()

    def _recover(self, hint: Window | None) -> None:
        tokens = math.prod(self.window)
        by_window = [term.numbers for term in self._terms if term.kind != "bias"]
        windows = math.prod(self.arrangement.windows)
        if by_window:
            kinds, numbers = torch.unique(torch.cat(by_window, 1), dim=0, return_inverse=True)
            count = len(kinds)
        else:
            numbers, count = torch.zeros(windows, dtype=torch.long), 1
        if count > MOST_GROUPS:
            self.reason = f"{count} different masks"
            return
        firsts = [int((numbers == kind).nonzero()[0, 0]) for kind in range(count)]
        bias = _sum([term.of_heads() for term in self._terms if term.kind == "bias"])
        masks = [self._hidden(first) for first in firsts]
        both = [
            _sum([term.rows.different[term.numbers[first]] for term in self._terms if term.kind == "both"])
            for first in firsts
        ]
        visible: Tensor | None = None
        if both[0] is not None:
            common = told_apart([part for part in both if part is not None])
            if common is None:
                self._keep_dense(numbers, [_sum([bias, part]) for part in both], masks)
                return
            shared, parts, visible = common
            bias = _sum([bias, shared])
            masks = [part if mask is None else mask | part for mask, part in zip(masks, parts, strict=True)]
        if bias is not None and bool((bias == bias.flatten(1)[:, :1, None]).all()):
            # It cancels in the softmax.
            bias = None
        table: TableBias | None = None
        if bias is not None:
            for window in dict.fromkeys([*filter(None, [hint]), *factorisations(tokens)]):
                if (table := table_of(bias, window, visible)) is not None:
                    self.window = window
                    break
        splits = [None if mask is None else split_of(mask, self.window) for mask in masks]
        followed = all(mask is None or split is not None for mask, split in zip(masks, splits, strict=True))
        if (bias is not None and table is None) or not followed:
            self._keep_dense(numbers, [bias] * count, masks)
            return
        self.bias = "none" if table is None else "table"
        kinds_split: list[Split] = [split or (None, None) for split in splits]
        grid = grid_of(numbers, kinds_split, self.window)
        if grid is not None:
            self.groups = [Group(None, *grid, None, table)]
            return
        for kind, split in enumerate(kinds_split):
            members = None if count == 1 else (numbers == kind).nonzero()[:, 0]
            self.groups.append(Group(members, (1, 1), _shift(split, self.window), None, table))

    def _depth(self) -> tuple[bool, float]:
        """Whether the host's masks are lower than those of the geometry, and the range of the bias."""
        biases = [group.bias.parameters()[0] for group in self.groups if group.bias is not None]
        seen = [bias[bias >= MASKED_BELOW] for bias in biases]
        lowest = sum(float(term.rows.different.min()) for term in self._terms)
        least = min((float(part.min()) for part in seen if len(part)), default=0.0)
        most = max((float(part.max()) for part in seen if len(part)), default=0.0)
        return lowest < (LOWEST if self.bias == "dense" else MASKED + least - 1e-3), most - least

    def _hidden(self, window: int) -> Tensor | None:
        """Pairs of tokens that masks hide in a window; None: there is no mask."""
        masks = [term.rows.different[term.numbers[window, 0]] <= MASKED for term in self._terms if term.kind == "mask"]
        hidden = functools.reduce(torch.logical_or, masks) if masks else None
        return hidden if hidden is not None and bool(hidden.any()) else None

    def _keep_dense(self, numbers: Tensor, biases: list[Tensor | None], masks: list[Tensor | None]) -> None:
        self.bias = "dense"
        for kind, (bias, hidden) in enumerate(zip(biases, masks, strict=True)):
            members = None if len(biases) == 1 else (numbers == kind).nonzero()[:, 0]
            parts = [bias, None if hidden is None else MASKED * hidden.to(torch.float32).unsqueeze(0)]
            dense = _sum(parts)
            if dense is not None and bool((dense.amax(-1) < NOTHING_SEEN).any()):
                self.reason = "queries that see no key"
                return
            own = None if dense is None else DenseBias(_bounded(dense), self.window)
            self.groups.append(Group(members, (1, 1), (0, 0), hidden, own))


class Recoveries:
    """What was recovered of a product's terms the last times: of images of several sizes."""

    def __init__(self) -> None:
        self._kept: tuple[Recovered, ...] = ()

    def of(self, product: Product, hint: Window | None) -> Recovered:
        """Recover the geometry of a product, or give what was recovered of the same terms before.

        Args:
            product: of queries and keys.
            hint: h and w that someone tells; not used if they do not hold the product's tokens.
        """
        fitting = hint if hint and math.prod(hint) == product.sides[0] else None
        for each in self._kept:
            if each.hint == fitting and each.is_of(product):
                return each
        # What is made in inference mode could not be used in training, to which it may be kept.
        with torch.inference_mode(mode=False), torch.no_grad():
            recovered = Recovered(product, fitting)
        # Another thread may do the same: what is kept is replaced, not changed.
        self._kept = (recovered, *self._kept[: MOST_KEPT - 1])
        return recovered


def _shape(product: Product) -> tuple[Any, ...]:
    terms = tuple((at, tuple(term.shape), term.dtype, term.device) for at, term in product.terms)
    return product.lead, product.sides, terms


def _sum(parts: list[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return functools.reduce(torch.add, present) if present else None


def _bounded(dense: Tensor) -> Tensor:
    """A bias of the same softmax whose entries are finite, also those that hide."""
    most = dense.detach().amax(-1, keepdim=True)
    return torch.where(most < MASKED_BELOW, dense - most, dense).clamp_min(LOWEST)


def _shift(split: Split, window: Window) -> tuple[int, int]:
    rows, columns = (0 if border is None else side - border for border, side in zip(split, window, strict=True))
    return rows, columns


def factorisations(tokens: int) -> list[Window]:
    """Windows of a number of tokens, the squarest first."""
    pairs = [(height, tokens // height) for height in range(1, tokens + 1) if tokens % height == 0]
    return sorted(pairs, key=lambda pair: abs(math.log(pair[0] / pair[1])))


@functools.lru_cache(maxsize=8)
def _offsets(window: Window) -> Tensor:
    """Numbers of the offsets from key to query in a table, (N, N)."""
    height, width = window
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).reshape(-1, 2)
    rows, columns = (places.unsqueeze(1) - places).unbind(2)
    return (rows + height - 1) * (2 * width - 1) + columns + width - 1


def table_of(bias: Tensor, window: Window, known: Tensor | None = None) -> TableBias | None:
    """The table from which a bias (h, N, N) is laid out where it is known, (N, N); None: there is none."""
    diagonal = bias.diagonal(dim1=1, dim2=2)
    if known is None and not torch.equal(diagonal, diagonal[:, :1].expand_as(diagonal)):
        return None
    offsets = _offsets(window).to(bias.device)
    # Any pair of tokens with an offset tells its bias.
    places = torch.arange(offsets.numel(), device=bias.device).reshape(offsets.shape)
    chosen = torch.full((int(offsets.max()) + 1,), -1, device=bias.device)
    chosen[offsets if known is None else offsets[known]] = places if known is None else places[known]
    table = torch.where(chosen >= 0, bias.flatten(1)[:, chosen.clamp_min(0)], 0.0)
    for head, values in zip(bias, table, strict=True):
        wrong = values[offsets] != head
        if bool((wrong if known is None else wrong & known).any()):
            return None
    return TableBias(table.T.contiguous(), window)


def split_of(hidden: Tensor, window: Window) -> Split | None:
    """The first row and column beyond the borders between which a mask (N, N) hides; None: it is another mask."""
    height, width = window
    seen = ~hidden[0].unflatten(0, window)
    rows, columns = int(seen[:, 0].sum()), int(seen[0].sum())
    split = (rows if rows < height else None, columns if columns < width else None)
    apart = torch.zeros_like(hidden)
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).reshape(-1, 2).to(hidden.device)
    for axis, border in enumerate(split):
        if border is not None:
            beyond = places[:, axis] >= border
            apart |= beyond.unsqueeze(1) != beyond
    return split if torch.equal(apart, hidden) else None


def grid_of(numbers: Tensor, splits: list[Split], window: Window) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Grid and shift of rolled maps whose windows, row by row, are of these kinds; None: there are none.

    Args:
        numbers: kind of each window, (W,).
        splits: of the kinds.
        window: h and w.
    """
    if all(split == (None, None) for split in splits):
        return (1, 1), (0, 0)
    vertical, horizontal = (
        torch.tensor([-1 if split[axis] is None else split[axis] for split in splits])[numbers.cpu()] for axis in (0, 1)
    )
    borders = [set(part.unique().tolist()) - {-1} for part in (vertical, horizontal)]
    if any(len(border) > 1 for border in borders):
        return None
    last = (vertical >= 0).nonzero()[:, 0]
    if borders[1]:
        columns = int((horizontal >= 0).nonzero()[0, 0]) + 1
    else:
        # Nothing tells where a row of windows ends but the first run of last ones.
        steps = (last.diff() != 1).nonzero()
        columns = int(steps[0, 0]) + 1 if len(steps) else len(last)
    rows = int(last[0]) // columns + 1 if borders[0] else 1
    if len(numbers) % (rows * columns):
        return None
    grid = (rows, columns)
    shift = _shift((next(iter(borders[0]), None), next(iter(borders[1]), None)), window)
    expected = torch.full((2, rows, columns), -1)
    if borders[0]:
        expected[0, -1] = borders[0].pop()
    if borders[1]:
        expected[1, :, -1] = borders[1].pop()
    maps = len(numbers) // (rows * columns)
    fits = torch.equal(torch.stack([vertical, horizontal]), expected.flatten(1).repeat(1, maps))
    return (grid, shift) if fits else None
