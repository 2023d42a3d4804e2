"""Products of queries and keys that are not computed, with what a host adds to them and multiplies them by."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

NOT_SEEN = (
    "torch does not let see what is done there: leave the module out (exclude of nystra.adopt), or release the network "
    "(nystra.release)"
)


class Attends(Protocol):
    """Makes the outputs of a noted product."""

    def attend(self, product: Product, value: Tensor) -> Tensor:
        """Attend: values (*lead, M, d) → (*lead, N, d)."""

    def unforeseen(self, noted: Tensor, reason: str) -> None:
        """Take note of why a product was computed after all."""

    def is_recomputed(self) -> bool:
        """Whether what is computed now will be computed again in a backward pass, where nothing is noted."""

    def place(self) -> Any:
        """Where in the network a product is noted, which becomes its `origin`."""


class Product:
    """The argument of a softmax: q kᵀ + terms + shift.

    Views of the same product share it, so that what is written to one of them in place is seen in all.

    Args:
        query: (*lead, N, d), any scale folded in.
        key: (*lead, M, d).
        owner: makes the outputs.
        head_axis: of the leading sides, which are heads; None: unknown.
        pending: all products of a call; None: nobody asks for them.

    Attributes:
        terms: what was added, each with the leading sides of the view to which it was added.
        shift: number that was added.
        value: (*lead, N, M) once it had to be computed, else None.
        origin: where the product was noted, for its owner.
    """

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        owner: Attends,
        head_axis: int | None = None,
        pending: weakref.WeakSet[Product] | None = None,
    ) -> None:
        self.query = query
        self.key = key
        self.owner = owner
        self.head_axis = head_axis
        self.terms: list[tuple[tuple[int, ...], Tensor]] = []
        self.shift: Any = 0
        self.value: Tensor | None = None
        self.origin: Any = None
        self._pending = pending
        self._versions = [(tensor, _version(tensor)) for tensor in (query, key)]
        self._differentiated = torch.is_grad_enabled()
        self._autocast = autocast(query.device.type)
        if pending is not None:
            pending.add(self)

    def copy(self) -> Product:
        """The same product, to which other terms may be added."""
        other = Product(self.query, self.key, self.owner, self.head_axis, self._pending)
        other.terms, other.shift, other.value = list(self.terms), self.shift, self.value
        other.origin = self.origin
        other._versions = list(self._versions)
        other._differentiated, other._autocast = self._differentiated, self._autocast
        return other

    @property
    def lead(self) -> tuple[int, ...]:
        """Sides before the tokens'."""
        return tuple(self.query.shape[:-2])

    @property
    def sides(self) -> tuple[int, int]:
        """Numbers of queries and of keys, N and M."""
        return self.query.shape[-2], self.key.shape[-2]

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the product as torch computes it."""
        _, lower = self._autocast
        return self.query.dtype if lower is None else lower

    @property
    def parts(self) -> list[Tensor]:
        """Tensors of which the product is computed."""
        return [self.query, self.key, *(term for _, term in self.terms)]

    @property
    def is_unshifted(self) -> bool:
        """Whether no number was added."""
        return not isinstance(self.shift, Tensor) and not self.shift

    def to(self, dtype: torch.dtype) -> None:
        """Compute in another precision."""
        self.query, self.key = self.query.to(dtype), self.key.to(dtype)

    def scale(self, factor: Any, *, by_key: bool = False) -> None:
        """Multiply by a number, or by a tensor that is the same for all keys of a query.

        Args:
            factor: broadcast to the product.
            by_key: whether it is the same for all queries of a key instead; then no number may have been added.
        """
        self._require_unwritten()
        if by_key:
            self.key = self.key * factor.reshape(*factor.shape[:-2], factor.shape[-1], 1)
        else:
            self.query = self.query * factor
        # A factor may be of higher precision.
        dtype = torch.promote_types(self.query.dtype, self.key.dtype)
        self.query, self.key = self.query.to(dtype), self.key.to(dtype)
        self.terms = [(lead, term * factor) for lead, term in self.terms]
        self.shift = self.shift * factor
        self._versions = [(tensor, _version(tensor)) for tensor in self.parts]

    def add(self, lead: tuple[int, ...], term: Tensor) -> None:
        """Add a tensor to a view of the product with some leading sides."""
        self.terms.append((lead, term))
        self._versions.append((term, _version(term)))

    def range(self, enough: float) -> float:
        """Range of the products of a query with all keys, without terms, or a bound on it that is at most `enough`."""
        query, key = self.query.detach(), self.key.detach()
        bound = float(2 * (query.norm(dim=-1).amax(-1) * key.norm(dim=-1).amax(-1)).amax())
        if bound <= enough:
            return bound
        products = query @ key.transpose(-2, -1)
        return float((products.amax(-1) - products.amin(-1)).amax())

    def compute(self) -> Tensor:
        """The product, computed at the first call, with the gradients and the precision of where it was noted."""
        if self.value is None:
            self._require_unwritten()
            with torch.set_grad_enabled(self._differentiated), self.precision():
                value = self.query @ self.key.transpose(-2, -1)
                for lead, term in self.terms:
                    value = (value.reshape(*lead, *self.sides) + term).reshape(*self.lead, *self.sides)
                # A number that never was added would cost a pass over the product.
                self.value = value if self.is_unshifted else value + self.shift
        return self.value

    def attend(self, value: Tensor) -> Tensor:
        """Products of the softmax with values (*lead, M, d): (*lead, N, d)."""
        self._require_unwritten()
        dtype = torch.promote_types(self.query.dtype, value.dtype)
        if self.query.dtype != dtype:
            self.to(dtype)
        _, lower = autocast(value.device.type)
        with self.precision():
            result = self.owner.attend(self, value.to(dtype))
        return result.to(value.dtype if lower is None else lower)

    @contextlib.contextmanager
    def precision(self) -> Iterator[None]:
        """Autocast as it was where the product was noted."""
        device = self.query.device.type
        if autocast(device) == self._autocast:
            yield
            return
        enabled, dtype = self._autocast
        with torch.autocast(device, dtype=dtype, enabled=enabled):
            yield

    def _require_unwritten(self) -> None:
        """Refuse to compute what the host would not have computed."""
        if any(_version(tensor) != version for tensor, version in self._versions):
            raise RuntimeError(f"queries, keys or biases of an adopted network are written in place. {NOT_SEEN}")


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def autocast(device: str) -> tuple[bool, torch.dtype | None]:
    """Whether autocast is enabled on a kind of device, and to what."""
    enabled = torch.is_autocast_enabled(device)
    return enabled, torch.get_autocast_dtype(device) if enabled else None
