"""Products of queries and keys that are noted, not computed, so that a kernel can make the outputs.

A host writes softmax(s·q kᵀ + terms) v in any of many ways. `Logits` stand for s·q kᵀ + terms in it, `Weights` for
their softmax; `nystra.adoption.operations` says what becomes of them. Whatever is done to them that is not foreseen
computes them, so that results are right in any case.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from nystra.adoption.product import NOT_SEEN, Product, autocast

Handler = Callable[..., Any]
# Function of torch → what it makes of noted tensors; `NotImplemented`: they are to be computed.
HANDLERS: dict[Any, Handler] = {}
# Attributes and functions that ask for what noted tensors know.
ATTRIBUTES = ("shape", "ndim", "dtype", "device", "layout", "itemsize", "nbytes", "is_cuda", "is_cpu", "requires_grad")
QUESTIONS = {
    Tensor.size,
    Tensor.dim,
    Tensor.ndimension,
    Tensor.numel,
    Tensor.nelement,
    Tensor.is_floating_point,
    Tensor.is_complex,
    Tensor.element_size,
    Tensor.get_device,
    Tensor.__len__,
    torch.numel,
    torch.is_floating_point,
    torch.is_complex,
    *(getattr(Tensor, name).__get__ for name in ATTRIBUTES),
}


class Noted(Tensor):
    """Stands for a tensor that was not computed: knows its shape, dtype and device.

    Attributes:
        product: from which it is computed.
    """

    product: Product
    _materialised: Tensor | None

    @classmethod
    def of(cls, product: Product, lead: tuple[int, ...], *sides: int, dtype: torch.dtype | None = None) -> Any:
        """Note a tensor of a product with some leading sides."""
        shape = (*lead, *(sides or product.sides))
        live = torch.is_grad_enabled() and any(part.requires_grad for part in product.parts)
        self: Any = torch.Tensor._make_wrapper_subclass(
            cls, shape, dtype=dtype or product.dtype, device=product.query.device, requires_grad=live
        )
        self.product, self._materialised = product, None
        if live:
            with torch._C.DisableTorchFunctionSubclass():
                self.register_hook(_refuse_gradient)
        return self

    @property
    def lead(self) -> tuple[int, ...]:
        """Sides before the last two."""
        return tuple(self.shape[:-2])

    @property
    def is_computed(self) -> bool:
        """Whether the tensor is known: from then on the host works with it, and may write to it."""
        return self.product.value is not None

    def materialise(self) -> Tensor:
        """The tensor, always the same object."""
        if self._materialised is None:
            self._materialised = self.compute()
        return self._materialised

    def compute(self) -> Tensor:
        """Compute the tensor, or make a view of what is computed already."""
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
        if any(each.requires_grad for each in _noted(args, kwargs)):
            raise RuntimeError(f"attention weights of an adopted network are given to {func}. {NOT_SEEN}")
        return _computed(func, args, kwargs)


def _refuse_gradient(_: Tensor) -> None:
    raise RuntimeError(f"attention weights of an adopted network went through a function of its own. {NOT_SEEN}")


def apply(func: Any, args: Any, kwargs: Any) -> Any:
    """Do to noted tensors what a function of torch does: note it if it is foreseen, else compute them first."""
    if func in QUESTIONS:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)
    handler = HANDLERS.get(func)
    if handler is not None and not any(_is_settled(each) for each in _noted(args, kwargs)):
        result = foreseen(handler, *args, **kwargs)
        if result is not NotImplemented:
            return result
    if func == Tensor.data.__set__:  # type: ignore[attr-defined]
        # Views and the host's other names of the tensor must see it.
        func = _write_data
    return _computed(func, args, kwargs)


def foreseen(handler: Handler, *args: Any, **kwargs: Any) -> Any:
    """Call a handler, if these are arguments that it knows."""
    return handler(*args, **kwargs) if _takes(handler, len(args), *kwargs) else NotImplemented


@functools.cache
def _takes(handler: Handler, count: int, *names: str) -> bool:
    """Whether a handler takes a number of arguments by place, and those of some names."""
    try:
        inspect.signature(handler).bind(*(None,) * count, **dict.fromkeys(names))
    except TypeError:
        return False
    return True


def _is_settled(each: Noted) -> bool:
    """Whether the host's own arithmetic follows: on what is known, or in a backward pass of its own."""
    return each.is_computed or (each.requires_grad and not torch.is_grad_enabled())


def _write_data(tensor: Tensor, data: Tensor) -> None:
    tensor.detach().copy_(data)


def _noted(args: Any, kwargs: Any) -> list[Noted]:
    # Most functions have none but plain arguments, which need not be taken apart.
    given = (*args, *(kwargs or {}).values())
    parts = tree_leaves(given) if any(isinstance(each, list | tuple | dict) for each in given) else given
    return [each for each in parts if isinstance(each, Noted)]


def _computed(func: Any, args: Any, kwargs: Any) -> Any:
    for each in _noted(args, kwargs):
        if not each.is_computed:
            each.product.owner.unforeseen(each, f"{getattr(func, '__name__', func)} of the weights is computed")
    return func(*materialise(args), **materialise(kwargs or {}))


def materialise(arguments: Any) -> Any:
    """Arguments with noted tensors computed."""
    return tree_map(lambda each: each.materialise() if isinstance(each, Noted) else each, arguments)


class Logits(Noted):
    """Stands for a product as some view of it, (*lead, N, M)."""

    def compute(self) -> Tensor:
        """See base class; views of one product are views of one tensor."""
        value = self.product.compute()
        return value if value.shape == self.shape else value.view(self.shape)


class Weights(Noted):
    """Stands for the softmax of a product over its keys, (*lead, N, M).

    Attributes:
        transposed: whether queries and keys have changed places: (*lead, M, N).
        computed: the softmax once it had to be computed, shared by views.
    """

    transposed = False
    computed: list[Tensor]

    @classmethod
    def of_logits(cls, logits: Logits, dtype: torch.dtype | None = None) -> Weights:
        """The softmax of logits as they are now."""
        product = logits.product.copy()
        if dtype is None and product.query.is_cuda and autocast("cuda")[0]:
            dtype = torch.float32
        self: Weights = cls.of(product, logits.lead, dtype=dtype)
        self.computed = []
        return self

    @property
    def is_computed(self) -> bool:
        """See base class."""
        return bool(self.computed) or super().is_computed

    def seen_as(
        self, lead: tuple[int, ...], *, transposed: bool | None = None, dtype: torch.dtype | None = None
    ) -> Weights:
        """Another view of the same weights, or a copy in another precision."""
        transposed = self.transposed if transposed is None else transposed
        sides = self.product.sides
        other: Weights = type(self).of(
            self.product, lead, *(sides[::-1] if transposed else sides), dtype=dtype or self.dtype
        )
        other.computed, other.transposed = self.computed if other.dtype == self.dtype else [], transposed
        return other

    def compute(self) -> Tensor:
        """See base class."""
        if not self.computed:
            with torch.set_grad_enabled(self.requires_grad):
                self.computed.append(self.product.compute().softmax(-1, dtype=self.dtype))
        whole = self.computed[0]
        sides = (*self.lead, *self.product.sides)
        whole = whole if whole.shape == sides else whole.view(sides)
        return whole.transpose(-2, -1) if self.transposed else whole

    def attend(self, value: Tensor) -> Tensor:
        """Products of the weights with values (*lead, M, d): (*lead, N, d)."""
        result = self.product.attend(value.reshape(*self.product.lead, *value.shape[-2:]))
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
        return self.weights.materialise().mean(-3)
