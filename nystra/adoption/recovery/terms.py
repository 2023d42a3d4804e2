"""Terms that a host added to a product: which of them are biases, which are masks, and for which windows and heads."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Literal

import torch
from torch import Tensor

from nystra.adoption.product import Product
from nystra.windows.geometry import MASKED

# Sums of a bias and a mask below this are hidden; hosts write -100, -1e9 or minus infinity.
MASKED_BELOW = -30.0
# Entries that are compared at once.
PIECE = 2**20


@dataclasses.dataclass(frozen=True)
class Rows:
    """The different matrices among many.

    Attributes:
        different: (u, N, M).
        numbers: for each of the matrices, which of the different ones it is, (count,).
    """

    different: Tensor
    numbers: Tensor

    @classmethod
    def of(cls, matrices: Tensor) -> Rows:
        """Find the different ones among matrices (count, N, M)."""
        flat = matrices.flatten(1)
        generator = torch.Generator().manual_seed(0)
        probe = torch.randn(flat.shape[1], generator=generator, dtype=torch.float64).to(flat.device)
        codes = torch.cat([part.double().clamp(-1e4, 1e4) @ probe for part in flat.split(_pieces(flat))])
        _, numbers = torch.unique(codes, return_inverse=True)
        # The first of each; equal codes of different matrices would be an accident, and are looked for.
        first = torch.full((int(numbers.max()) + 1,), len(flat), device=flat.device)
        first.scatter_reduce_(0, numbers, torch.arange(len(flat), device=flat.device), "amin")
        rows = cls(matrices[first].clone(), numbers)
        if rows.are(matrices):
            return rows
        return cls(matrices.clone(), torch.arange(len(matrices), device=matrices.device))

    def are(self, matrices: Tensor) -> bool:
        """Whether matrices (count, N, M) are these, bit by bit."""
        if matrices.dtype != self.different.dtype or matrices.device != self.different.device:
            return False
        step = _pieces(matrices.flatten(1))
        return all(
            torch.equal(part, self.different[numbers])
            for part, numbers in zip(matrices.split(step), self.numbers.split(step), strict=True)
        )

    @property
    def are_masks(self) -> bool:
        """Whether every entry hides or changes nothing, and some hide, but none all keys of a query."""
        hidden = self.different <= MASKED
        whole = bool((hidden | (self.different == 0)).all())
        return whole and bool(hidden.any()) and not bool(hidden.all(-1).any())


def _pieces(flat: Tensor) -> int:
    return max(1, PIECE // max(flat.shape[1], 1))


def matrices(product: Product, place: int) -> Tensor:
    """Matrices of a term of a product: (count, N, M)."""
    lead, term = product.terms[place]
    whole = term[(None,) * (len(lead) + 2 - term.dim())]
    return whole.expand(*whole.shape[:-2], *product.sides).reshape(-1, *product.sides)


@functools.lru_cache(maxsize=64)
def _numbers(sides: tuple[int, ...], at: tuple[int, ...], lead: tuple[int, ...]) -> Tensor:
    """Number of the matrix of a term for every place (lead) of a product, if it was added where sides were `at`."""
    count = torch.arange(math.prod(sides)).reshape(sides)
    return count.expand(at).reshape(lead)


@dataclasses.dataclass(frozen=True)
class Term:
    """A term, by window and head.

    Attributes:
        place: in the product's terms.
        rows: its different matrices.
        numbers: which of them each window and head takes, (W, h).
        places: which of the term's matrices, different or not, each window and head takes, (W, h).
        kind: a bias is the same in all windows, a mask in all heads; "both" is neither.
    """

    place: int
    rows: Rows
    numbers: Tensor
    places: Tensor
    kind: Literal["bias", "mask", "both"]

    def of_heads(self) -> Tensor:
        """A bias by head, (h or 1, N, M)."""
        return self.rows.different[_once(self.numbers[0])]

    def live(self, product: Product) -> Tensor | None:
        """A bias by head, (h or 1, N, M), whose gradients reach all that the host added to a product.

        Matrices that are equal now may have gradients of their own. None: windows have.
        """
        if bool((self.places != self.places[0]).any()):
            return None
        return matrices(product, self.place)[_once(self.places[0])]


def _once(numbers: Tensor) -> Tensor:
    """Numbers by head, or one for all."""
    return numbers[:1] if bool((numbers == numbers[0]).all()) else numbers


@dataclasses.dataclass(frozen=True)
class Arrangement:
    """The leading axes of a product, told apart: those of windows and those of heads.

    Attributes:
        order: of the leading axes, those of windows first.
        windows: sides of the windows' axes.
        heads: sides of the heads' axes.
    """

    order: tuple[int, ...]
    windows: tuple[int, ...]
    heads: tuple[int, ...]

    @classmethod
    def of(cls, lead: tuple[int, ...], axes: set[int]) -> Arrangement:
        """Arrange leading sides whose axes of heads are known."""
        first = [axis for axis in range(len(lead)) if axis not in axes]
        last = sorted(axes)
        return cls((*first, *last), tuple(lead[axis] for axis in first), tuple(lead[axis] for axis in last))

    def apart(self, tokens: Tensor) -> Tensor:
        """Tokens (*lead, n, c) as (W, h, n, c)."""
        count = len(self.order)
        arranged = tokens.permute(*self.order, count, count + 1)
        return arranged.reshape(math.prod(self.windows), math.prod(self.heads), *tokens.shape[-2:])

    def together(self, tokens: Tensor) -> Tensor:
        """Tokens (W, h, n, c) as (*lead, n, c)."""
        count = len(self.order)
        back = [self.order.index(axis) for axis in range(count)]
        return tokens.reshape(*self.windows, *self.heads, *tokens.shape[-2:]).permute(*back, count, count + 1)


def sort_terms(product: Product) -> tuple[Arrangement, list[Term]]:
    """Tell windows from heads by what was added to a product, and biases from masks."""
    lead = product.lead
    found = []
    for place, (at, term) in enumerate(product.terms):
        own = tuple(term.shape[:-2])
        sides = (1,) * (len(at) - len(own)) + own
        rows = Rows.of(matrices(product, place).detach())
        places = _numbers(sides, at, lead).to(rows.numbers.device)
        numbers = rows.numbers[places]
        varying = {axis for axis in range(len(lead)) if bool((numbers != numbers.narrow(axis, 0, 1)).any())}
        found.append((rows, numbers, places, varying))
    # A bias varies by head alone; where nothing tells, heads are the last axis, if it is not the only one.
    biases = [varying for rows, *_, varying in found if len(varying) == 1 and not rows.are_masks]
    axes = set.union(*biases) if biases else set()
    masked = set().union(*(varying for rows, *_, varying in found if rows.are_masks))
    if not axes and len(lead) > 1 and len(lead) - 1 not in masked:
        axes = {len(lead) - 1}
    if product.head_axis is not None:
        axes = {product.head_axis}
    arrangement = Arrangement.of(lead, axes)
    terms = []
    for place, (rows, numbers, places, varying) in enumerate(found):
        kind: Literal["bias", "mask", "both"] = "both"
        if rows.are_masks and not varying & axes:
            kind = "mask"
        elif not rows.are_masks and varying <= axes:
            kind = "bias"
        sides = math.prod(arrangement.windows), math.prod(arrangement.heads)
        flat, laid = (each.permute(arrangement.order).reshape(sides) for each in (numbers, places))
        terms.append(Term(place, rows, flat, laid, kind))
    return arrangement, terms


def told_apart(kinds: list[Tensor]) -> tuple[Tensor, list[Tensor], Tensor] | None:
    """Bias and masks that a host had added to each other, (h, N, N) for each kind of window.

    Returns:
        The bias, what each kind hides, and where the bias is known; None: these are no bias with masks.
    """
    hidden = [(kind < MASKED_BELOW).all(0) for kind in kinds]
    known = ~hidden[0]
    bias = torch.where(hidden[0], 0.0, kinds[0])
    for kind, apart in zip(kinds[1:], hidden[1:], strict=True):
        both = known & ~apart
        if not torch.equal(torch.where(both, bias, 0.0), torch.where(both, kind, 0.0)):
            return None
        bias = torch.where(known | apart, bias, kind)
        known = known | ~apart
    for kind, apart in zip(kinds, hidden, strict=True):
        least_seen = torch.where(apart, -torch.inf, kind).amax(-1).min()
        hides = torch.where(apart & known, kind - bias, MASKED) < MASKED + 1
        if float(least_seen) < MASKED_BELOW / 2 or not bool(hides.all()):
            return None
    return (bias, hidden, known) if not bool((bias < MASKED_BELOW).any()) else None
