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
from nystra.adoption.recovery.layout import Layout, square
from nystra.adoption.recovery.terms import MASKED_BELOW, matrices, sort_terms, told_apart
from nystra.adoption.recovery.windows import Split, factorisations, grid_of, shift_of, split_of, table_of
from nystra.functional import differentiated
from nystra.windows.geometry import MASKED, ExtraTokens, WindowGeometry
from nystra.windows.position_bias import DenseBias, PositionBias, TableBias

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
        extra: tokens that the windows have beside their maps; None: there are none.
        tables: what kernels keep.
    """

    members: Tensor | None
    grid: tuple[int, int]
    shift: tuple[int, int]
    hidden: Tensor | None
    bias: PositionBias | None
    extra: ExtraTokens | None = None
    tables: dict[Any, Any] = dataclasses.field(default_factory=dict)


class Recovered:
    """What was recovered of the terms of a product.

    Attributes:
        window: h and w, in tokens; N = h·w.
        extra: numbers of tokens before and behind those of the window.
        arrangement: which leading axes are windows and which are heads.
        groups: windows by kind; together they are all windows.
        reason: why kernels cannot follow, None if they can.
        bias: "table", "dense" or "none", for people.
        hint: the layout that was told.
    """

    def __init__(self, product: Product, hint: Layout | None) -> None:
        self.hint = hint
        self._shape = _shape(product)
        self.arrangement, self._terms = sort_terms(product)
        self.groups: list[Group] = []
        self.reason: str | None = None
        self.bias = "none"
        tokens, keys = product.sides
        layout = hint or Layout(square(tokens) or (1, tokens))
        self.window, self.extra = layout.window, layout.extra
        if tokens != keys:
            self.reason = f"{keys} keys for {tokens} queries"
            return
        self._recover()
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
            bias, tables, extra = group.bias, group.tables, group.extra
            if live and dense is not None:
                # Gradients must reach every entry of what the host added, which may be a table of pairs that just now
                # looks like one of offsets.
                hidden = 0 if group.hidden is None else MASKED * group.hidden.to(dense.dtype)
                whole = _bounded(dense + hidden)
                bias, tables = DenseBias(self.inside(whole), self.window), {}
                extra = None if extra is None else extra._replace(bias=whole)
            result.append((group.members, WindowGeometry(self.window, group.grid, group.shift, bias, tables, extra)))
        return result

    def forget_tables(self) -> None:
        """Free what kernels kept."""
        for group in self.groups:
            group.tables.clear()

    @property
    def layout(self) -> Layout:
        """Layout of the tokens."""
        return Layout(self.window, *self.extra)

    def _recover(self) -> None:
        tokens = self.layout.tokens
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
        if any(self.extra):
            if bias is None or not any(table_of(bias, window) for window in factorisations(tokens)):
                self._keep_dense(numbers, [_sum([bias, part]) for part in both], masks)
                return
            self.extra = (0, 0)
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
            told = [] if self.hint is None else [self.hint.window]
            for window in dict.fromkeys([*told, *factorisations(tokens)]):
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
            self.groups.append(Group(members, (1, 1), shift_of(split, self.window), None, table))

    def _depth(self) -> tuple[bool, float]:
        """Whether the host's masks are lower than those of the geometry, and the range of the bias."""
        whole = [group.bias.parameters()[0] for group in self.groups if group.bias is not None]
        beside = [group.extra.bias for group in self.groups if group.extra is not None]
        biases = [bias for bias in (*whole, *beside) if bias is not None]
        seen = [bias[bias >= MASKED_BELOW] for bias in biases]
        lowest = sum(float(term.rows.different.min()) for term in self._terms)
        least = min((float(part.min()) for part in seen if len(part)), default=0.0)
        most = max((float(part.max()) for part in seen if len(part)), default=0.0)
        dense = self.bias == "dense" or any(self.extra)
        return lowest < (LOWEST if dense else MASKED + least - 1e-3), most - least

    def _hidden(self, window: int) -> Tensor | None:
        """Pairs of tokens that masks hide in a window; None: there is no mask."""
        masks = [term.rows.different[term.numbers[window, 0]] <= MASKED for term in self._terms if term.kind == "mask"]
        hidden = functools.reduce(torch.logical_or, masks) if masks else None
        return hidden if hidden is not None and bool(hidden.any()) else None

    def _keep_dense(self, numbers: Tensor, biases: list[Tensor | None], masks: list[Tensor | None]) -> None:
        if not any(self.extra):
            self.bias = "dense"
        for kind, (bias, hidden) in enumerate(zip(biases, masks, strict=True)):
            members = None if len(biases) == 1 else (numbers == kind).nonzero()[:, 0]
            parts = [bias, None if hidden is None else MASKED * hidden.to(torch.float32).unsqueeze(0)]
            dense = _sum(parts)
            if dense is not None and bool((dense.amax(-1) < NOTHING_SEEN).any()):
                self.reason = "queries that see no key"
                return
            self.groups.append(Group(members, (1, 1), (0, 0), hidden, *self._parts(dense)))

    def _parts(self, dense: Tensor | None) -> tuple[PositionBias | None, ExtraTokens | None]:
        """Bias of the map and tokens beside it, from a bias of all tokens, (heads or 1, T, T)."""
        bounded = None if dense is None else _bounded(dense)
        if not any(self.extra):
            return None if bounded is None else DenseBias(bounded, self.window), None
        bias: PositionBias | None = None
        if bounded is not None and bool(self.inside(bounded).any()):
            own = self.inside(bounded).contiguous()
            bias = table_of(own, self.window) or DenseBias(own, self.window)
            self.bias = "table" if isinstance(bias, TableBias) else "dense"
        return bias, ExtraTokens(*self.extra, bounded)

    def inside(self, dense: Tensor) -> Tensor:
        """A bias of all tokens (heads or 1, T, T) between those of the map, (heads or 1, N, N)."""
        before, after = self.extra
        own = slice(before, dense.shape[2] - after)
        return dense[:, own, own]


class Recoveries:
    """What was recovered of a product's terms the last times: of images of several sizes."""

    def __init__(self) -> None:
        self._kept: tuple[Recovered, ...] = ()

    def of(self, product: Product, hint: Layout | None) -> Recovered:
        """Recover the geometry of a product, or give what was recovered of the same terms before.

        Args:
            product: of queries and keys.
            hint: layout of the product's tokens that someone tells.
        """
        for each in self._kept:
            if each.hint == hint and each.is_of(product):
                return each
        # What is made in inference mode could not be used in training, to which it may be kept.
        with torch.inference_mode(mode=False), torch.no_grad():
            recovered = Recovered(product, hint)
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
