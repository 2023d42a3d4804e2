"""Interception of the products of queries and keys while a module runs."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from nystra.adoption.noted import Logits, MeanWeights, Noted, Weights, apply, foreseen, materialise
from nystra.adoption.operations import PRODUCTS, hiding, labels
from nystra.adoption.product import Attends, Product


class _Innermost(threading.local):
    """Which interception is at work in a thread: products of a module within another one's are not the outer one's."""

    interception: Interception | None = None


_INNERMOST = _Innermost()


@contextlib.contextmanager
def _at_work(interception: Interception | None) -> Iterator[None]:
    outer, _INNERMOST.interception = _INNERMOST.interception, interception
    try:
        yield
    finally:
        _INNERMOST.interception = outer


def unseen() -> contextlib.AbstractContextManager[None]:
    """Compute everything as it is written, whatever module around intercepts."""
    return _at_work(None)


class Interception(TorchFunctionMode):
    """Notes what may be products of queries and keys, instead of computing them.

    Args:
        owner: makes the outputs of softmax attention.
    """

    def __init__(self, owner: Attends) -> None:
        super().__init__()
        self.owner = owner
        self._pending: weakref.WeakSet[Product] = weakref.WeakSet()
        self._has_noted = False
        self._work = contextlib.ExitStack()

    def __enter__(self) -> Interception:
        """Begin."""
        self._work.enter_context(_at_work(self))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """End."""
        super().__exit__(*error)
        self._work.close()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note products; hand noted ones on to what is foreseen for them."""
        kwargs = kwargs or {}
        if _INNERMOST.interception is not self:
            return func(*args, **kwargs)
        # As `unseen` does: a context manager for each function of torch takes longer than small functions do.
        _INNERMOST.interception = None
        try:
            return self._intercept(func, types, args, kwargs)
        finally:
            _INNERMOST.interception = self

    def _intercept(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if self._has_noted and _writes(func, kwargs):
            self._compute_before_written(args, kwargs)
        interceptor = INTERCEPTORS.get(func)
        if types and any(issubclass(each, Noted) for each in types):
            if interceptor is None or any(isinstance(each, Weights) for each in tree_leaves((args, kwargs))):
                return apply(func, args, kwargs)
            # A product of a product: the host's own linear map of queries, for one.
            args, kwargs = materialise(args), materialise(kwargs)
        if interceptor is not None:
            result = foreseen(interceptor, self, *args, **kwargs)
            if result is not NotImplemented:
                return result
        return func(*args, **kwargs)

    def note(self, query: Tensor, key: Tensor) -> Any:
        """Note q kᵀ of queries (*lead, N, d) and keys (*lead, M, d)."""
        fits = query.dim() == key.dim() >= 3 and query.shape[:-2] == key.shape[:-2] and query.shape[-1] == key.shape[-1]
        if not fits or not query.is_floating_point() or query.numel() == 0 or key.numel() == 0:
            return NotImplemented
        if self.owner.is_recomputed():
            return NotImplemented
        product = Product(query, key, self.owner, pending=self._pending)
        self._has_noted = True
        product.origin = self.owner.place()
        return Logits.of(product, product.lead)

    def _compute_before_written(self, args: Any, kwargs: Any) -> None:
        """Compute products of which something is written to by a function of these arguments."""
        written = {_storage(each) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)} - {None}
        for product in list(self._pending):
            if product.value is None and not written.isdisjoint(map(_storage, product.parts)):
                product.compute()


def _writes(func: Any, kwargs: Any) -> bool:
    """Whether a function writes to one of its arguments, as far as names tell."""
    name = getattr(func, "__name__", "")
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or name.startswith(("__i", "__set")) or "out" in kwargs or bool(kwargs.get("inplace"))


def _storage(tensor: Tensor) -> int | None:
    return None if isinstance(tensor, Noted) else tensor.untyped_storage()._cdata


def _matmul(mode: Interception, left: Any, right: Any) -> Any:
    if not isinstance(left, Tensor) or not isinstance(right, Tensor) or right.dim() < 3:
        return NotImplemented
    return mode.note(left, right.transpose(-2, -1))


def _baddbmm(
    mode: Interception, term: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1
) -> Any:
    logits = mode.note(left, right.transpose(-2, -1))
    if logits is NotImplemented:
        return logits
    logits = logits * alpha
    return logits + beta * term if beta else logits


def _einsum(mode: Interception, equation: Any, *operands: Any) -> Any:
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    parts = labels(equation)
    if parts is None or len(operands) != 2:
        return NotImplemented
    (left, right), out = parts
    summed = [label for label in left if label in right and label not in out]
    lead = [label for label in left if label in right and label in out]
    rows, columns = ([label for label in one if label not in other] for one, other in ((left, right), (right, left)))
    if not len(summed) == len(rows) == len(columns) == 1 or not lead:
        return NotImplemented
    if out[-2:] == [*columns, *rows]:
        # Keys were named first.
        operands, (left, right), (rows, columns) = operands[::-1], (right, left), (columns, rows)
    if set(out[:-2]) != set(lead) or out[-2:] != [*rows, *columns]:
        return NotImplemented
    lead = out[:-2]
    return mode.note(
        operands[0].permute([left.index(label) for label in (*lead, *rows, *summed)]),
        operands[1].permute([right.index(label) for label in (*lead, *columns, *summed)]),
    )


def _fused(
    mode: Interception,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,  # torch's signature
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    if is_causal or dropout_p or enable_gqa or value.shape[:-1] != key.shape[:-1]:
        return NotImplemented
    logits = mode.note(query * (query.shape[-1] ** -0.5 if scale is None else scale), key)
    if logits is NotImplemented:
        return NotImplemented
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            attn_mask = hiding(~attn_mask, query.dtype)
        logits = logits + attn_mask
    return Weights.of_logits(logits).attend(value) if isinstance(logits, Logits) else NotImplemented


def _multi_head(
    mode: Interception,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,  # torch's signature
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    average_attn_weights: bool = True,
    **rest: Any,
) -> Any:
    """`torch.nn.MultiheadAttention`, tokens first; its weights are computed only if they are looked at."""
    unusual = use_separate_proj_weight or bias_k is not None or bias_v is not None or add_zero_attn
    if unusual or key_padding_mask is not None or in_proj_weight is None or (training and dropout_p):
        return NotImplemented
    if rest.get("is_causal") or query.dim() != 3 or (attn_mask is not None and attn_mask.dim() != 2):
        return NotImplemented
    biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    maps = zip((query, key, value), in_proj_weight.chunk(3), biases, strict=True)
    queries, keys, values = (
        F.linear(tokens, weight, bias).unflatten(2, (num_heads, -1)).permute(1, 2, 0, 3)
        for tokens, weight, bias in maps
    )
    logits = mode.note(queries * queries.shape[-1] ** -0.5, keys)
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            attn_mask = hiding(attn_mask, query.dtype)
        logits = logits + attn_mask
    weights = Weights.of_logits(logits)
    result = weights.attend(values).permute(2, 0, 1, 3).flatten(2)
    seen = MeanWeights.of_weights(weights) if average_attn_weights else weights
    return F.linear(result, out_proj_weight, out_proj_bias), seen if need_weights else None


INTERCEPTORS: dict[Any, Any] = {
    **dict.fromkeys(PRODUCTS, _matmul),
    torch.baddbmm: _baddbmm,
    torch.einsum: _einsum,
    F.scaled_dot_product_attention: _fused,
    F.multi_head_attention_forward: _multi_head,
}
