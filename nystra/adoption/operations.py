"""What hosts do to noted products, function by function: scales, terms, views, softmax, products with values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nystra.adoption.noted import HANDLERS, Handler, Logits, Noted, Weights

PRODUCTS = (Tensor.matmul, Tensor.__matmul__, torch.matmul, torch.bmm, Tensor.bmm, torch.linalg.matmul)


def handles(*functions: Any) -> Callable[[Handler], Handler]:
    """Register what is done for functions of torch."""

    def register(handler: Handler) -> Handler:
        for function in functions:
            HANDLERS[function] = handler
        return handler

    return register


# Numbers with which hosts fill logits where nothing may be seen. What stood there is gone beside them.
FILLED_BELOW = -1e3


def _written(logits: Logits, *, in_place: bool) -> Logits:
    """Logits to which something may be done: the same ones, or others of the same product."""
    return logits if in_place else Logits.of(logits.product.copy(), logits.lead)


def _scale(logits: Any, factor: Any, *, in_place: bool) -> Any:
    if not isinstance(logits, Logits) or isinstance(factor, Noted):
        return NotImplemented
    if isinstance(factor, Tensor) and (factor.is_complex() or factor.dtype == torch.bool):
        return NotImplemented
    by_key = False
    if isinstance(factor, Tensor) and factor.dim():
        product = logits.product
        leads = {logits.lead, product.lead, *(lead for lead, _ in product.terms)}
        by_query = _broadcasts(factor.shape, (*logits.shape[:-1], 1))
        by_key = (
            not by_query and _broadcasts(factor.shape, (*logits.lead, 1, logits.shape[-1])) and product.is_unshifted
        )
        if len(leads) > 1 or not (by_query or by_key):
            return NotImplemented
    elif not isinstance(factor, Tensor | int | float):
        return NotImplemented
    result = _written(logits, in_place=in_place)
    result.product.scale(factor, by_key=by_key)
    return result


@handles(Tensor.mul, Tensor.__mul__, Tensor.__rmul__, torch.mul, torch.multiply, Tensor.multiply)
def _mul(left: Any, right: Any) -> Any:
    return _scale(*((left, right) if isinstance(left, Noted) else (right, left)), in_place=False)


@handles(Tensor.mul_, Tensor.__imul__)
def _mul_in_place(left: Any, right: Any) -> Any:
    return _scale(left, right, in_place=True)


@handles(Tensor.div, Tensor.__truediv__, torch.div, torch.divide, Tensor.true_divide, Tensor.divide)
def _div(left: Any, right: Any) -> Any:
    return NotImplemented if isinstance(right, Noted) else _scale(left, 1 / right, in_place=False)


@handles(Tensor.div_, Tensor.__itruediv__)
def _div_in_place(left: Any, right: Any) -> Any:
    return NotImplemented if isinstance(right, Noted) else _scale(left, 1 / right, in_place=True)


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    """Whether a tensor of a shape can be added to one of another, which then has the same shape."""
    aligned = tuple(to)[len(to) - len(shape) :]
    return len(shape) <= len(to) and all(side in (1, other) for side, other in zip(shape, aligned, strict=True))


def _add(logits: Any, term: Any, *, in_place: bool, factor: float = 1) -> Any:
    if not isinstance(logits, Logits) or isinstance(term, Noted):
        return NotImplemented
    if isinstance(term, Tensor):
        if term.is_complex() or term.dtype == torch.bool or not _broadcasts(term.shape, logits.shape):
            return NotImplemented
    elif not isinstance(term, int | float):
        return NotImplemented
    result = _written(logits, in_place=in_place)
    term = term if factor == 1 else factor * term
    if isinstance(term, Tensor) and term.dim():
        result.product.add(logits.lead, term)
    else:
        # It cancels in the softmax.
        result.product.shift = result.product.shift + term
    return result


@handles(Tensor.add, Tensor.__add__, Tensor.__radd__, torch.add)
def _plus(left: Any, right: Any) -> Any:
    return _add(*((left, right) if isinstance(left, Noted) else (right, left)), in_place=False)


@handles(Tensor.add_, Tensor.__iadd__)
def _plus_in_place(left: Any, right: Any) -> Any:
    return _add(left, right, in_place=True)


@handles(Tensor.sub, Tensor.__sub__, torch.sub, torch.subtract, Tensor.subtract)
def _minus(left: Any, right: Any) -> Any:
    return _add(left, right, in_place=False, factor=-1)


@handles(Tensor.sub_, Tensor.__isub__)
def _minus_in_place(left: Any, right: Any) -> Any:
    return _add(left, right, in_place=True, factor=-1)


def _mask(logits: Any, mask: Tensor, value: Any, *, in_place: bool) -> Any:
    if not isinstance(logits, Logits) or isinstance(mask, Noted) or not float(value) < FILLED_BELOW:
        return NotImplemented
    return _add(logits, hiding(mask, logits.product.query.dtype, float(value)), in_place=in_place)


def hiding(hidden: Tensor, dtype: torch.dtype, value: float = -math.inf) -> Tensor:
    """A term that hides where booleans are true."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill(hidden, value)


@handles(Tensor.masked_fill, torch.masked_fill)
def _masked_fill(logits: Any, mask: Any, value: Any) -> Any:
    return _mask(logits, mask, value, in_place=False)


@handles(Tensor.masked_fill_)
def _masked_fill_in_place(logits: Any, mask: Any, value: Any) -> Any:
    return _mask(logits, mask, value, in_place=True)


@handles(torch.where)
def _where(condition: Any, left: Any = None, right: Any = None) -> Any:
    if not isinstance(left, Logits) or isinstance(condition, Noted):
        return NotImplemented
    value = right if isinstance(right, int | float) else None
    if isinstance(right, Tensor) and not isinstance(right, Noted) and right.numel() == 1:
        value = float(right)
    return NotImplemented if value is None else _mask(left, ~condition, value, in_place=False)


def _seen_as(noted: Noted, shape: tuple[int, ...]) -> Any:
    """Noted tensors with other leading sides."""
    if len(shape) < 2 or shape[-2:] != tuple(noted.shape[-2:]) or math.prod(shape) != math.prod(noted.shape):
        return NotImplemented
    if isinstance(noted, Weights):
        return noted.seen_as(shape[:-2])
    if not isinstance(noted, Logits):
        return NotImplemented
    return Logits.of(noted.product, shape[:-2])


@handles(Tensor.view, Tensor.reshape, torch.reshape)
def _view(noted: Any, *shape: Any, **_: Any) -> Any:
    if not shape or not isinstance(noted, Noted):
        return NotImplemented
    if len(shape) == 1 and not isinstance(shape[0], int):
        if isinstance(shape[0], torch.dtype):
            return NotImplemented
        shape = tuple(shape[0])
    if -1 in shape:
        rest = max(-math.prod(shape), 1)
        shape = tuple(math.prod(noted.shape) // rest if side == -1 else side for side in shape)
    return _seen_as(noted, tuple(shape))


@handles(Tensor.unsqueeze, torch.unsqueeze)
def _unsqueeze(noted: Any, dim: int) -> Any:
    place = dim % (noted.dim() + 1)
    shape = [*noted.shape[:place], 1, *noted.shape[place:]]
    return NotImplemented if place > noted.dim() - 2 else _seen_as(noted, tuple(shape))


@handles(Tensor.squeeze, torch.squeeze)
def _squeeze(noted: Any, dim: Any = None) -> Any:
    if not isinstance(dim, int) or dim % noted.dim() > noted.dim() - 3:
        return NotImplemented
    place = dim % noted.dim()
    if noted.shape[place] != 1:
        return noted
    return _seen_as(noted, (*noted.shape[:place], *noted.shape[place + 1 :]))


@handles(Tensor.flatten, torch.flatten)
def _flatten(noted: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    start, end = start_dim % noted.dim(), end_dim % noted.dim()
    shape = (*noted.shape[:start], math.prod(noted.shape[start : end + 1]), *noted.shape[end + 1 :])
    return _seen_as(noted, shape) if end < noted.dim() - 2 else NotImplemented


@handles(Tensor.unflatten, torch.unflatten)
def _unflatten(noted: Any, dim: int, sizes: Any) -> Any:
    place = dim % noted.dim()
    if place > noted.dim() - 3:
        return NotImplemented
    rest = max(-math.prod(sizes), 1)
    inner = tuple(noted.shape[place] // rest if side == -1 else side for side in sizes)
    return _seen_as(noted, (*noted.shape[:place], *inner, *noted.shape[place + 1 :]))


@handles(Tensor.transpose, torch.transpose, Tensor.swapaxes, torch.swapaxes)
def _transpose(noted: Any, first: int, second: int) -> Any:
    count = noted.dim()
    if not isinstance(noted, Weights) or {first % count, second % count} != {count - 2, count - 1}:
        return NotImplemented
    return noted.seen_as(noted.lead, transposed=not noted.transposed)


@handles(Tensor.permute, torch.permute)
def _permute(noted: Any, *dims: Any) -> Any:
    order = tuple(dims[0]) if len(dims) == 1 and not isinstance(dims[0], int) else dims
    count = noted.dim()
    order = tuple(dim % count for dim in order)
    if not isinstance(noted, Weights) or order[:-2] != tuple(range(count - 2)):
        return NotImplemented
    return noted.seen_as(noted.lead, transposed=noted.transposed ^ (order[-1] == count - 2))


@handles(Tensor.mT.__get__)  # type: ignore[attr-defined]
def _matrix_transpose(noted: Any) -> Any:
    return _transpose(noted, -2, -1)


@handles(Tensor.contiguous)
def _contiguous(noted: Any) -> Any:
    return noted


def _in_precision(noted: Any, dtype: Any) -> Any:
    """Noted tensors of another precision, which are copies."""
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point or not isinstance(noted, Logits | Weights):
        return NotImplemented
    if dtype == noted.dtype:
        return noted
    if isinstance(noted, Weights):
        return noted.seen_as(noted.lead, dtype=dtype)
    product = noted.product.copy()
    product.to(dtype)
    return Logits.of(product, noted.lead) if product.dtype == dtype else NotImplemented


handles(Tensor.float)(lambda noted: _in_precision(noted, torch.float32))
handles(Tensor.double)(lambda noted: _in_precision(noted, torch.float64))
handles(Tensor.half)(lambda noted: _in_precision(noted, torch.float16))
handles(Tensor.bfloat16)(lambda noted: _in_precision(noted, torch.bfloat16))
handles(Tensor.type)(_in_precision)


@handles(Tensor.to, Tensor.type_as)
def _to(noted: Any, like: Any = None, dtype: torch.dtype | None = None) -> Any:
    if isinstance(like, Tensor):
        like = like.dtype if like.device == noted.device else None
    if isinstance(like, str | torch.device):
        like = noted.dtype if torch.device(like) == noted.device else None
    return _in_precision(noted, like if dtype is None else dtype)


@handles(Tensor.softmax, torch.softmax, F.softmax, torch.special.softmax)
def _softmax(logits: Any, dim: int | None = -1, *_: Any, dtype: torch.dtype | None = None, **__: Any) -> Any:
    if not isinstance(logits, Logits) or dim not in (-1, logits.dim() - 1) or any(map(_is_dtype, _)):
        return NotImplemented
    return Weights.of_logits(logits, dtype)


def _is_dtype(argument: Any) -> bool:
    return isinstance(argument, torch.dtype)


@handles(F.dropout, torch.dropout)
def _dropout(noted: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    return noted if isinstance(noted, Weights) and not (training and p) else NotImplemented


@handles(*PRODUCTS)
def _matmul(left: Any, right: Any) -> Any:
    if isinstance(left, Weights) and not isinstance(right, Noted):
        fits = not left.transposed and tuple(right.shape[:-2]) == left.lead
        return left.attend(right) if fits else NotImplemented
    if isinstance(right, Weights) and not isinstance(left, Noted):
        fits = right.transposed and tuple(left.shape[:-2]) == right.lead
        # v Wᵀ = (W vᵀ)ᵀ.
        return right.attend(left.transpose(-2, -1)).transpose(-2, -1) if fits else NotImplemented
    return NotImplemented


@handles(torch.einsum)
def _einsum(equation: str, *operands: Any) -> Any:
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    parts = labels(equation)
    if len(operands) != 2 or parts is None:
        return NotImplemented
    (left, right), out = parts
    if isinstance(operands[1], Weights):
        operands, (left, right) = operands[::-1], (right, left)
    weights, value = operands
    if not isinstance(weights, Weights) or isinstance(value, Noted) or weights.transposed:
        return NotImplemented
    *lead, row, column = left
    channels = [label for label in right if label not in left]
    if column in out or column not in right or row in right or len(channels) != 1:
        return NotImplemented
    if any(label not in right or label not in out for label in lead) or set(out) != {*lead, row, *channels}:
        return NotImplemented
    attended = weights.attend(value.permute([right.index(label) for label in (*lead, column, *channels)]))
    return attended.permute([[*lead, row, *channels].index(label) for label in out])


def labels(equation: Any) -> tuple[tuple[list[str], list[str]], list[str]] | None:
    """Take a product of two tensors in einsum's notation apart; None: it is another one."""
    if not isinstance(equation, str) or "." in equation or equation.count("->") != 1 or equation.count(",") != 1:
        return None
    inputs, out = equation.replace(" ", "").split("->")
    left, right = (list(part) for part in inputs.split(","))
    if any(len(set(part)) != len(part) for part in (left, right)):
        return None
    return (left, right), list(out)
