"""Products of queries and keys that are noted, not computed, so that a kernel can make the outputs.

A host writes softmax(s·q kᵀ + terms) v in any of many ways. `Logits` stand for s·q kᵀ + terms in it, `Weights` for
their softmax; `nystra.adoption.operations` says what becomes of them. Whatever is done to them that is not foreseen
computes them, so that results are right in any case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

Handler = Callable[..., Any]
# Function of torch → what it makes of noted tensors; `NotImplemented`: they are to be computed.
HANDLERS: dict[Any, Handler] = {}
# Functions that ask for what noted tensors know.
QUESTIONS = {
    Tensor.size,
    Tensor.dim,
    Tensor.ndimension,
    Tensor.numel,
    Tensor.nelement,
    Tensor.is_floating_point,
    Tensor.element_size,
    Tensor.get_device,
    Tensor.__len__,
}


class Attends(Protocol):
    """Makes the outputs of a noted product."""

    def attend(self, product: Product, value: Tensor) -> Tensor:
        """Attend: values (*lead, M, d) → (*lead, N, d)."""

    def unforeseen(self, reason: str) -> None:
        """Take note of why a product was computed after all."""


class Product:
    """The argument of a softmax: q kᵀ + terms.

    Views of the same product share it, so that what is written to one of them in place is seen in all.

    Args:
        query: (*lead, N, d), any scale folded in.
        key: (*lead, M, d).
        owner: makes the outputs.
        head_axis: of the leading sides, which are heads; None: unknown.

    Attributes:
        terms: what was added, each with the leading sides of the view to which it was added.
        value: (*lead, N, M) once it had to be computed, else None.
    """

    def __init__(self, query: Tensor, key: Tensor, owner: Attends, head_axis: int | None = None) -> None:
        self.query = query
        self.key = key
        self.owner = owner
        self.head_axis = head_axis
        self.terms: list[tuple[tuple[int, ...], Tensor]] = []
        self.value: Tensor | None = None

    def copy(self) -> Product:
        """The same product, to which other terms may be added."""
        other = Product(self.query, self.key, self.owner, self.head_axis)
        other.terms = list(self.terms)
        other.value = self.value
        return other

    @property
    def lead(self) -> tuple[int, ...]:
        """Sides before the tokens'."""
        return tuple(self.query.shape[:-2])

    @property
    def sides(self) -> tuple[int, int]:
        """Numbers of queries and of keys, N and M."""
        return self.query.shape[-2], self.key.shape[-2]

    def scale(self, factor: Any) -> None:
        """Multiply by a number, or by a tensor that is the same for all keys of a query."""
        self.query = self.query * factor
        self.terms = [(lead, term * factor) for lead, term in self.terms]

    def compute(self) -> Tensor:
        """The product, computed at the first call."""
        if self.value is None:
            value = self.query @ self.key.transpose(-2, -1)
            for lead, term in self.terms:
                value = (value.reshape(*lead, *self.sides) + term).reshape(*self.lead, *self.sides)
            self.value = value
        return self.value


class Noted(Tensor):
    """Stands for a tensor that was not computed: knows its shape, dtype and device.

    Attributes:
        product: from which it is computed.
    """

    product: Product

    @classmethod
    def of(cls, product: Product, lead: tuple[int, ...], *sides: int) -> Any:
        """Note a tensor of a product with some leading sides."""
        like = product.query
        device = like.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype
        shape = (*lead, *(sides or product.sides))
        self: Any = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device=like.device)
        self.product = product
        return self

    @property
    def lead(self) -> tuple[int, ...]:
        """Sides before the last two."""
        return tuple(self.shape[:-2])

    def compute(self) -> Tensor:
        """The tensor."""
        raise NotImplementedError

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do what is foreseen, and compute before anything else."""
        return apply(func, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's type of it leaves out the function
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Compute below autograd, where functions of C++ see the tensor first; gradients would be lost there."""
        for each in _noted(args, kwargs):
            if each.product.query.requires_grad or each.product.key.requires_grad:
                raise RuntimeError(
                    f"attention weights of an adopted network are given to {func} where torch does not let see them: "
                    "leave the module out (exclude of nystra.adopt), or train the network as it was (nystra.release)"
                )
        return _computed(func, args, kwargs)


def apply(func: Any, args: Any, kwargs: Any) -> Any:
    """Do to noted tensors what a function of torch does: note it if it is foreseen, else compute them first."""
    handler = HANDLERS.get(func)
    if handler is not None:
        result = handler(*args, **kwargs)
        if result is not NotImplemented:
            return result
    if func in QUESTIONS or getattr(func, "__name__", "") == "__get__":
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)
    return _computed(func, args, kwargs)


def _noted(args: Any, kwargs: Any) -> list[Noted]:
    return [each for each in tree_flatten((args, kwargs or {}))[0] if isinstance(each, Noted)]


def _computed(func: Any, args: Any, kwargs: Any) -> Any:
    for each in _noted(args, kwargs):
        each.product.owner.unforeseen(f"{getattr(func, '__name__', func)} of the weights is computed")
    args, kwargs = tree_map(lambda each: each.compute() if isinstance(each, Noted) else each, (args, kwargs or {}))
    return func(*args, **kwargs)


class Logits(Noted):
    """Stands for a product as some view of it, (*lead, N, M)."""

    def compute(self) -> Tensor:
        """See base class; views of one product are views of one tensor."""
        return self.product.compute().view(self.shape)


class Weights(Noted):
    """Stands for the softmax of a product over its keys, (*lead, N, M).

    Attributes:
        transposed: whether queries and keys have changed places: (*lead, M, N).
    """

    transposed = False
    computed: list[Tensor]

    @classmethod
    def of_logits(cls, logits: Logits) -> Weights:
        """The softmax of logits as they are now."""
        self: Weights = cls.of(logits.product.copy(), logits.lead)
        self.computed = []
        return self

    def seen_as(self, lead: tuple[int, ...], *, transposed: bool) -> Weights:
        """Another view of the same weights."""
        sides = self.product.sides
        other: Weights = type(self).of(self.product, lead, *(sides[::-1] if transposed else sides))
        other.computed, other.transposed = self.computed, transposed
        return other

    def compute(self) -> Tensor:
        """See base class."""
        if not self.computed:
            self.computed.append(self.product.compute().softmax(-1))
        whole = self.computed[0].view(*self.lead, *self.product.sides)
        return whole.transpose(-2, -1) if self.transposed else whole

    def attend(self, value: Tensor) -> Tensor:
        """Products of the weights with values (*lead, M, d): (*lead, N, d)."""
        product = self.product
        if self.computed:
            # Someone may have written to them.
            return self.computed[0].to(value.dtype).view(*self.lead, *product.sides) @ value
        result = product.owner.attend(product, value.reshape(*product.lead, *value.shape[-2:]))
        return result.reshape(*self.lead, *result.shape[-2:])


class MeanWeights(Noted):
    """Stands for the mean of weights (B, h, N, M) over heads, which `torch.nn.MultiheadAttention` gives by default."""

    weights: Weights

    @classmethod
    def of_weights(cls, weights: Weights) -> MeanWeights:
        """The mean of weights over their last leading side."""
        self: MeanWeights = cls.of(weights.product, weights.lead[:-1])
        self.weights = weights
        return self

    def compute(self) -> Tensor:
        """See base class."""
        return self.weights.compute().mean(-3)
