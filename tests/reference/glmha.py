"""GLMHA, Eqs. (3)–(7) (Ilyas et al.), written out step by step for the conventions of both kinds of host.

Every step writes its feature map, as the equations do. Functions of plain tensors, of any floating dtype.
The number of heads h is the length of the learnable scale; d = C / h channels of Q and d' = C' / h of K̲ and V̲ a head.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def calibration(q: Tensor, dwconv: Tensor, linear: Tensor, heads: int) -> Tensor:
    """Calibration vector a = φ(Q), Eq. (4).

    Args:
        q: queries before normalisation, shape (B, C, H, W).
        dwconv: depth-wise kernels, shape (C, 1, k, k); Q is max-pooled to k × k.
        linear: map within a head, shared by the heads, shape (C / heads, C / heads).
        heads: number of heads.

    Returns:
        Shape (B, C), in (−1, 1).
    """
    batch, channels = q.shape[:2]
    pooled = F.adaptive_max_pool2d(q, dwconv.shape[-2:])
    squeezed = F.gelu(F.conv2d(pooled, dwconv, groups=channels))
    mixed = F.linear(squeezed.reshape(batch, heads, channels // heads), linear)
    return torch.tanh(mixed).reshape(batch, channels)


def reweight(x: Tensor, a: Tensor, alpha: float) -> Tensor:
    """Calibrated input X̲ = X + X ⊙ αa, Eq. (5): (B, C, H, W) and (B, C) → (B, C, H, W)."""
    return x + x * (alpha * a)[:, :, None, None]


def low_rank_attention(q: Tensor, k: Tensor, v: Tensor, scale: Tensor) -> Tensor:
    """Channel attention softmax(Q K̲ᵀ · scale) V̲ with Q and K̲ normalised over the pixels, Eq. (7).

    Args:
        q: shape (B, C, H, W).
        k: shape (B, C', H, W).
        v: shape (B, C', H, W).
        scale: 1/β, one a head, shape (h, 1, 1).

    Returns:
        Shape (B, C, H, W).
    """
    batch, channels, height, width = q.shape
    heads = scale.shape[0]
    q = F.normalize(q.reshape(batch, heads, channels // heads, height * width), dim=-1)
    k = F.normalize(k.reshape(batch, heads, k.shape[1] // heads, height * width), dim=-1)
    v = v.reshape(batch, heads, v.shape[1] // heads, height * width)
    attention = (q @ k.transpose(-2, -1) * scale).softmax(dim=-1)
    return (attention @ v).reshape(batch, channels, height, width)


def restormer_glmha(
    x: Tensor,
    weights: Mapping[str, Tensor],
    biases: Mapping[str, Tensor],
    *,
    alpha: float,
) -> Tensor:
    """GLMHA with Restormer's conventions: 3×3 depth-wise convolutions after the 1×1 projections, then `project_out`.

    Args:
        x: features, shape (B, C, H, W).
        weights: "q" (C, C, 1, 1), "q_dwconv" (C, 1, 3, 3), "k" and "v" (C', C, 1, 1), "k_dwconv" and "v_dwconv"
            (C', 1, 3, 3), "temperature" (h, 1, 1), "project_out" (C, C, 1, 1), "calibration_dwconv" (C, 1, k, k)
            and "calibration_linear" (C / h, C / h).
        biases: those of the seven convolutions of Q, K̲, V̲ and the output that have one, by the same names.
        alpha: strength of the calibration.

    Returns:
        Shape (B, C, H, W), without the block's residual.
    """

    def project(features: Tensor, name: str) -> Tensor:
        pointwise = F.conv2d(features, weights[name], biases.get(name))
        depthwise, bias = weights[f"{name}_dwconv"], biases.get(f"{name}_dwconv")
        return F.conv2d(pointwise, depthwise, bias, padding=1, groups=depthwise.shape[0])

    temperature = weights["temperature"]
    q = project(x, "q")
    a = calibration(q, weights["calibration_dwconv"], weights["calibration_linear"], temperature.shape[0])
    calibrated = reweight(x, a, alpha)
    out = low_rank_attention(q, project(calibrated, "k"), project(calibrated, "v"), temperature)
    return F.conv2d(out, weights["project_out"], biases.get("project_out"))


def position_sources(channels: int, reduced: int, heads: int) -> list[int]:
    """Channel of V̲ that each output of MST's positional branch reads: i = g·d + j reads g·d' + floor(j·d'/d)."""
    d, reduced_d = channels // heads, reduced // heads
    return [g * reduced_d + j * reduced_d // d for g in range(heads) for j in range(d)]


def mst_glmha(
    x: Tensor,
    weights: Mapping[str, Tensor],
    *,
    alpha: float,
    mask_attention: Tensor | None = None,
) -> Tensor:
    """GLMHA with MST's conventions: linear projections, softmax(k qᵀ · rescale) and a positional branch on V̲.

    Rows of the released models' attention are indexed by their `k`. The full-size Q of the paper, one row a
    channel of the output, is therefore `to_k`, and the paper's K̲ is `to_q`.

    Args:
        x: features, shape (B, H, W, C).
        weights: "to_k" (C, C), "to_q" and "to_v" (C', C), "rescale" (h, 1, 1), "proj" (C, C), "proj_bias" (C,),
            "pos_emb.0" (C', 1, 3, 3), "pos_emb.2" (C, 1, 3, 3), "calibration_dwconv" (C, 1, k, k) and
            "calibration_linear" (C / h, C / h).
        alpha: strength of the calibration.
        mask_attention: weights of V̲ from a mask, shape (B, H, W, C'); the positional branch does not see them.

    Returns:
        Shape (B, H, W, C), without the block's residual.
    """
    rescale = weights["rescale"]
    heads = rescale.shape[0]
    q = F.linear(x, weights["to_k"]).permute(0, 3, 1, 2)
    a = calibration(q, weights["calibration_dwconv"], weights["calibration_linear"], heads)
    calibrated = reweight(x.permute(0, 3, 1, 2), a, alpha).permute(0, 2, 3, 1)
    k = F.linear(calibrated, weights["to_q"]).permute(0, 3, 1, 2)
    v = F.linear(calibrated, weights["to_v"]).permute(0, 3, 1, 2)
    masked = v if mask_attention is None else v * mask_attention.permute(0, 3, 1, 2)
    out = low_rank_attention(q, k, masked, rescale).permute(0, 2, 3, 1)
    content = F.linear(out, weights["proj"], weights["proj_bias"])
    first, second = weights["pos_emb.0"], weights["pos_emb.2"]
    hidden = F.gelu(F.conv2d(v, first, padding=1, groups=first.shape[0]))
    expanded = hidden[:, position_sources(second.shape[0], first.shape[0], heads)]
    position = F.conv2d(expanded, second, padding=1, groups=second.shape[0])
    return content + position.permute(0, 2, 3, 1)
