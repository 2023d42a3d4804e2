"""Operations with hand-written gradients, which cost less than those that autograd composes.

Values and first derivatives are those of the plain expressions in the docstrings; tests check both. The operations read
and write feature maps fewer times. Derivatives that are to be differentiated again are left to autograd.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from glmha import functional
from glmha.cpu.row_bands import bands


def _composed(ctx: Any, gradient: Tensor, plain: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor | None]:
    """Return the gradients of the inputs as autograd composes them, which can be differentiated again.

    `once_differentiable` would leave them constant, without a word, wherever `gradient` is.
    """
    wanted = [tensor for tensor, needed in zip(inputs, ctx.needs_input_grad, strict=False) if needed]
    found = iter(torch.autograd.grad(plain(*inputs), wanted, gradient, create_graph=True))
    return [next(found) if needed else None for _, needed in zip(inputs, ctx.needs_input_grad, strict=False)]


def _gated(x: Tensor) -> Tensor:
    gate, value = x.chunk(2, 1)
    return F.gelu(gate) * value


class _Gate(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        gate, value = x.chunk(2, 1)
        return F.gelu(gate).mul_(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor | None:
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _composed(ctx, gradient, _gated, x)[0]
        gate, value = x.chunk(2, 1)
        # Written into the halves of one map: autograd would concatenate two maps, and keep gelu(gate) as well.
        result = torch.empty_like(x)
        gate_gradient, value_gradient = result.chunk(2, 1)
        torch.mul(gradient, F.gelu(gate), out=value_gradient)
        gate_gradient.copy_(torch.ops.aten.gelu_backward(gradient * value, gate))
        return result


def gate(x: Tensor) -> Tensor:
    """Compute GELU(a) ⊙ b for the channel halves [a, b] of x (Restormer, Eq. 2).

    Args:
        x: shape (B, 2C, H, W).

    Returns:
        Shape (B, C, H, W).
    """
    return _Gate.apply(x)


class _DepthwiseConvolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=weight.shape[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        channels, radius = weight.shape[0], weight.shape[-1] // 2
        if torch.is_grad_enabled():
            convolve = partial(F.conv2d, padding=radius, groups=channels)
            composed = _composed(ctx, gradient, convolve, x, weight)
            return composed[0], composed[1], gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        x_gradient = weight_gradient = bias_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = F.conv2d(gradient, weight.flip(2, 3), padding=radius, groups=channels)
        if ctx.needs_input_grad[1]:
            # In bands: over a whole map of tens of megabytes the library's kernel is several times slower.
            weight_gradient = torch.zeros_like(weight)
            for band in bands(x, channels, radius):
                rows = gradient[:, :, band.start : band.stop]
                rows = F.pad(rows, (0, 0, band.start - band.low, band.high - band.stop))
                weight_gradient += torch.ops.aten.convolution_backward(
                    rows,
                    x[:, :, band.low : band.high],
                    weight,
                    None,
                    [1, 1],
                    [radius, radius],
                    [1, 1],
                    False,
                    [0, 0],
                    channels,
                    [False, True, False],
                )[1]
        if ctx.has_bias and ctx.needs_input_grad[2]:
            bias_gradient = gradient.sum((0, 2, 3))
        return x_gradient, weight_gradient, bias_gradient


def depthwise_convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve every channel with its own odd kernel, same size.

    Args:
        x: shape (B, C, H, W).
        weight: shape (C, 1, k, k), k odd.
        bias: shape (C,) or None.

    Returns:
        Shape (B, C, H, W).
    """
    return _DepthwiseConvolution.apply(x, weight, bias)


class _Similarity(Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, heads: int) -> Tensor:
        query_norm = functional.channel_norms(query, heads).clamp_min(functional.NORM_EPSILON)
        key_norm = functional.channel_norms(key, heads).clamp_min(functional.NORM_EPSILON)
        cosines = functional.cosine(functional.head_products(query, key, heads), query_norm, key_norm)
        ctx.save_for_backward(query, key, query_norm, key_norm, cosines)
        ctx.heads = heads
        return cosines

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        query, key, query_norm, key_norm, cosines = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = partial(functional.similarity, heads=ctx.heads)
            query_gradient, key_gradient = _composed(ctx, gradient, plain, query, key)
            return query_gradient, key_gradient, None
        products = gradient / (query_norm.unsqueeze(3) * key_norm.unsqueeze(2))
        # d cos/d‖q‖ = -cos/‖q‖; the norm of a channel at the clamp is constant.
        along = gradient * cosines
        query_scale = -along.sum(3) / query_norm.square() * (query_norm > functional.NORM_EPSILON)
        key_scale = -along.sum(2) / key_norm.square() * (key_norm > functional.NORM_EPSILON)
        return (
            _mixed(key, products.transpose(2, 3), query, query_scale),
            _mixed(query, products, key, key_scale),
            None,
        )


def _mixed(left: Tensor, matrices: Tensor, right: Tensor, scale: Tensor) -> Tensor:
    """Add left·M per head and right scaled by channel: (B, N, C'), (B, h, d', d), (B, N, C), (B, h, d) → (B, N, C)."""
    result = torch.empty_like(right, memory_format=torch.contiguous_format)
    for image, blocks in enumerate(matrices.to(left.dtype)):
        heads = len(blocks)
        columns = zip(left[image].chunk(heads, 1), blocks, result[image].chunk(heads, 1), strict=True)
        for source, block, out in columns:
            torch.mm(source, block, out=out)
    return result.addcmul_(right, scale.flatten(1).unsqueeze(1).to(right.dtype))


def similarity(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """Compute the cosine of every query channel with every key channel of its head, as `functional.similarity` does.

    Args:
        query: tokens (B, N, C).
        key: tokens (B, N, C').
        heads: number of heads.

    Returns:
        Shape (B, h, d, d'), in [-1, 1], float32 at least.
    """
    return _Similarity.apply(query, key, heads)
