"""Channel attention as pure tensor maths.

Notation: B batch, N = H·W pixels, C channels, h heads, d = C/h channels of a head, C' = h·d' channels of the low-rank
keys and values (GLMHA's C'). Feature maps come as tokens (B, N, C), channels contiguous; an attention matrix is
(B, h, d, d'): its rows are the paper's queries, its columns the keys.

The functions compute Eqs. (1)-(7) of GLMHA, by a cheaper route where algebra gives one. Tests compare every route with
a literal transcription of the equations (tests/reference).
"""

from __future__ import annotations

import contextlib
import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from glmha.shared.graphs import is_recorded
from glmha.shared.precision import at_least_float32, computes_in_float16

# A channel whose norm is below this is treated as zero, as torch.nn.functional.normalize does upstream.
NORM_EPSILON = 1e-12
# Of an image, the largest for which a route is chosen.
MANY_PIXELS = 2**20


def head_products(left: Tensor, right: Tensor, heads: int) -> Tensor:
    """Multiply every query channel with every key channel of its head, summed over pixels.

    Q Kᵀ of Eq. (2), per head.

    Args:
        left: tokens (B, N, C).
        right: tokens (B, N, C').
        heads: number of heads h; divides C and C'.

    Returns:
        Shape (B, h, C/h, C'/h), dtype of the inputs.
    """
    if is_recorded():
        return by_head(left, heads) @ by_head(right, heads).transpose(2, 3)
    batch, tokens, channels = left.shape
    if batch == 1:
        # One batched product over heads: strides express it, nothing is copied.
        rows = left.view(tokens, heads, channels // heads).permute(1, 2, 0)
        columns = right.view(tokens, heads, -1).transpose(0, 1)
        return torch.bmm(rows, columns).unsqueeze(0)
    # Heads and batch cannot be merged into one stride: one batched product per head avoids the copy.
    return torch.stack(
        [torch.bmm(a.transpose(1, 2), b) for a, b in zip(left.chunk(heads, 2), right.chunk(heads, 2), strict=True)], 1
    )


def by_head(tokens: Tensor, heads: int) -> Tensor:
    """View tokens (B, N, C) as channels by head, (B, h, C/h, N)."""
    return tokens.transpose(1, 2).unflatten(1, (heads, -1))


def cosine(products: Tensor, left_norm: Tensor, right_norm: Tensor) -> Tensor:
    """Divide channel products by the channels' norms, in float32 at least.

    The result is that of multiplying normalised q and k, without writing these.

    Args:
        products: (B, h, d, d').
        left_norm: L2 norms over pixels, (B, h, d).
        right_norm: L2 norms over pixels, (B, h, d').

    Returns:
        Shape (B, h, d, d'), in [-1, 1], float32 (float64 if given so).
    """
    left = at_least_float32(left_norm).clamp_min(NORM_EPSILON)
    right = at_least_float32(right_norm).clamp_min(NORM_EPSILON)
    return at_least_float32(products) / (left.unsqueeze(3) * right.unsqueeze(2))


def channel_norms(tokens: Tensor, heads: int) -> Tensor:
    """Compute every channel's L2 norm over the pixels, by head: (B, N, C) → (B, h, C/h), float32 at least."""
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    if is_recorded():
        return torch.linalg.vector_norm(by_head(tokens, heads), dim=3, dtype=dtype)
    return torch.linalg.vector_norm(tokens, dim=1, dtype=dtype).unflatten(1, (heads, -1))


def similarity(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """Compute the cosine of every query channel with every key channel of its head.

    Args:
        query: tokens (B, N, C).
        key: tokens (B, N, C').
        heads: number of heads.

    Returns:
        Shape (B, h, d, d'), in [-1, 1], float32 at least.
    """
    query_norm, key_norm = channel_norms(query, heads), channel_norms(key, heads)
    if computes_in_float16(query):
        # Sums over pixels can exceed float16's largest number, so here normalised queries and keys are written.
        query, key = (
            (tokens / norms.clamp_min(NORM_EPSILON).flatten(1).unsqueeze(1)).half()
            for tokens, norms in ((query, query_norm), (key, key_norm))
        )
        return at_least_float32(head_products(query, key, heads))
    return cosine(head_products(query, key, heads), query_norm, key_norm)


def gram_similarity(tokens: Tensor, query_weight: Tensor, key_weight: Tensor, heads: int) -> Tensor:
    """Compute the cosines of linear queries and keys from the Gram matrix of their input.

    With q = W_Q x and k = W_K x: q kᵀ = W_Q (x xᵀ) W_Kᵀ and ‖q_i‖² = (W_Q (x xᵀ) W_Qᵀ)_ii, so neither q nor k is
    ever formed. Valid where no convolution follows the projection (MST, not Restormer). The mean is subtracted first,
    x xᵀ = x̃ x̃ᵀ + N·x̄ x̄ᵀ, and projected by itself: otherwise a weight that cancels a large mean would leave rounding
    errors alone.

    Args:
        tokens: x, (B, N, C).
        query_weight: W_Q, (C, C) or (B, C, C).
        key_weight: W_K, (C', C) or (B, C', C).
        heads: number of heads.

    Returns:
        Shape (B, h, d, d'), float32 at least.
    """
    batch, pixels, _ = tokens.shape
    mean = tokens.mean(1, keepdim=True)
    centred = tokens - mean
    gram = at_least_float32(torch.bmm(centred.transpose(1, 2), centred))
    query = at_least_float32(query_weight).expand(batch, -1, -1)
    key = at_least_float32(key_weight).expand(batch, -1, -1)
    column = at_least_float32(mean).transpose(1, 2) * pixels**0.5
    query_mean, key_mean = query @ column, key @ column
    query_gram = query @ gram
    # Rounding can push a square that should be zero below it, and the square root of zero has no gradient.
    query_square = (query_gram * query).sum(2) + query_mean.squeeze(2).square()
    key_square = ((key @ gram) * key).sum(2) + key_mean.squeeze(2).square()
    query_norm, key_norm = (square.clamp_min(NORM_EPSILON**2).sqrt() for square in (query_square, key_square))

    def grouped(rows: Tensor) -> Tensor:
        return rows.unflatten(1, (heads, -1))

    products = grouped(query_gram) @ grouped(key).transpose(2, 3)
    products = products + grouped(query_mean) @ grouped(key_mean).transpose(2, 3)
    return cosine(products, grouped(query_norm), grouped(key_norm))


def absorb(attention: Tensor, output_weight: Tensor) -> Tensor:
    """Multiply the attention matrix into the output projection: W_out (A V) = (W_out A) V.

    Args:
        attention: (B, h, d, d').
        output_weight: W_out, (C_out, C) with C = h·d.

    Returns:
        W_out A, (B, C_out, h·d'), dtype of `output_weight`.
    """
    heads, head_channels = attention.shape[1:3]
    per_head = output_weight.unflatten(1, (heads, head_channels)).transpose(0, 1)
    return (per_head @ attention.to(output_weight.dtype)).transpose(1, 2).flatten(2)


def attend(attention: Tensor, value: Tensor, output_weight: Tensor, output_bias: Tensor | None = None) -> Tensor:
    """Apply the attention matrix to the values and project: W_out (A V) + b, Eqs. (2) and (7) without the residual.

    Args:
        attention: (B, h, d, d').
        value: tokens (B, N, C').
        output_weight: (C_out, C).
        output_bias: (C_out,) or None.

    Returns:
        Tokens (B, N, C_out), dtype of `value`.
    """
    channels = attention.shape[1] * attention.shape[2]
    route = output_route(
        pixels_to_choose_by(value.shape[1]), output_weight.shape[0], channels, value.shape[2], attention.shape[1]
    )
    if route == "absorbed":
        weight = absorb(attention, output_weight)
        if is_recorded():
            result = (weight @ value.transpose(1, 2)).transpose(1, 2)
            return result if output_bias is None else result + output_bias
        if value.shape[0] == 1:
            return F.linear(value, weight[0], output_bias)
        result = torch.bmm(value, weight.transpose(1, 2))
        return result if output_bias is None else result + output_bias
    if is_recorded():
        mixed = (attention.to(value.dtype) @ by_head(value, attention.shape[1])).flatten(1, 2)
        return F.linear(mixed.transpose(1, 2), output_weight, output_bias)
    values = value.unflatten(2, (attention.shape[1], -1)).transpose(1, 2)
    mixed = (values @ attention.to(value.dtype).transpose(2, 3)).transpose(1, 2).flatten(2)
    return F.linear(mixed, output_weight, output_bias)


def pixels_to_choose_by(count: int) -> int:
    """Number of pixels by which a route is chosen: a graph has one route for all images, that of large ones."""
    return MANY_PIXELS if is_recorded() else count


def output_route(tokens: int, output_channels: int, channels: int, key_channels: int, heads: int) -> str:
    """Choose how W_out A V is multiplied: the route of fewer multiply-adds.

    Returns:
        "absorbed" ((W_out A) V) or "sequential" (W_out (A V)).
    """
    rank = key_channels // heads
    absorbed = output_channels * channels * rank + output_channels * key_channels * tokens
    sequential = channels * rank * tokens + output_channels * channels * tokens
    return "absorbed" if absorbed <= sequential else "sequential"


def similarity_route(tokens: int, channels: int, key_channels: int, heads: int, *, query_needed: bool) -> str:
    """Choose how the cosines of linear projections are computed: the route of fewer multiply-adds.

    Args:
        tokens: number of pixels N.
        channels: C.
        key_channels: C'.
        heads: h.
        query_needed: whether the queries must be formed anyway (GLMHA calibrates on them).

    Returns:
        "gram" (x xᵀ, then C×C products) or "direct" (form q and k, then q kᵀ).
    """
    rank = key_channels // heads
    gram = channels**2 * tokens + channels**2 * (channels + key_channels) + channels**2 * rank
    direct = key_channels * channels * tokens + channels * rank * tokens
    if not query_needed:
        direct += channels**2 * tokens
    return "gram" if gram < direct else "direct"


def favor_attention(query: Tensor, key: Tensor, temperature: Tensor, projection: Tensor, heads: int) -> Tensor:
    """Approximate softmax(τ q̂ k̂ᵀ) by positive random features (FAVOR+ of Performer, Choromanski et al., Eq. 5).

    Channels are the sequence and pixels their embedding, so a random direction has one coefficient a pixel.

    Args:
        query: tokens (B, N, C); normalised here.
        key: tokens (B, N, C').
        temperature: τ per head, (h, 1, 1); its sign goes to the key.
        projection: random directions, (N, M), of unit-variance coefficients.
        heads: number of heads.

    Returns:
        Row-stochastic matrix (B, h, d, d'), float32 at least.
    """
    scale = at_least_float32(temperature).abs().sqrt()
    sign = at_least_float32(temperature).sign()

    def coefficients(tokens: Tensor) -> Tensor:
        norms = channel_norms(tokens, heads).clamp_min(NORM_EPSILON)
        projected = at_least_float32(tokens.transpose(1, 2) @ projection.to(tokens.dtype))
        return projected.unflatten(1, (heads, -1)) / norms.unsqueeze(3) * scale

    # exp(ω·x - ‖x‖²/2) with ‖x‖² = |τ| for every channel: the constant cancels in the normalisation, and so does
    # each query's own maximum; keys share one maximum per head for the same reason.
    left, right = coefficients(query), coefficients(key) * sign
    left = torch.exp(left - left.amax(3, keepdim=True))
    right = torch.exp(right - right.amax((2, 3), keepdim=True))
    # The product replaces the softmax, which autocast computes in float32.
    device = query.device.type
    available = torch.amp.is_autocast_available(device)
    with torch.autocast(device, enabled=False) if available else contextlib.nullcontext():
        kernel = left @ right.transpose(2, 3)
    return kernel / kernel.sum(3, keepdim=True).clamp_min(torch.finfo(kernel.dtype).tiny)


def low_rank(head_channels: int, reduction: float) -> int:
    """Count the channels of a head that a reduction leaves: max(1, round((1 - reduction)·d))."""
    return max(1, round((1 - reduction) * head_channels))


@torch.compiler.assume_constant_result
def random_directions(pixels: int, count: int, seed: int, device: torch.device) -> Tensor:
    """Draw Gaussian directions over the pixels, (pixels, count): the same for the same arguments on every device.

    A graph has them as a constant, and so takes images of one size.
    """
    # A number, also where `torch.jit.trace` gives a tensor.
    return drawn_directions(int(pixels), count, seed, device)


@functools.lru_cache(maxsize=8)
def drawn_directions(pixels: int, count: int, seed: int, device: torch.device) -> Tensor:
    """Draw what `random_directions` gives, and keep it."""
    generator = torch.Generator().manual_seed(seed)
    # A tensor made in inference mode stays in the cache, and training cannot save it for its backward pass.
    with torch.inference_mode(False):
        return torch.randn(pixels, count, generator=generator).to(device)
