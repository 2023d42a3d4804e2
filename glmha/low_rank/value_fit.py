"""Values of the closed-form start: by least squares, separable where a depth-wise convolution follows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from glmha.low_rank.moments import Statistics

# Relative weight of the ridge towards the start: a few images leave some directions of the values undetermined.
RIDGE = 1e-2
SWEEPS = 5


def mixing(statistics: Statistics, attention: Tensor, kept: Tensor) -> Tensor:
    """Find the M of each head, (h, d', d), that minimises ‖A̲ M V - A V‖² with a ridge towards the selected channels."""
    scores, moments, values, _ = statistics
    heads = scores.shape[1]
    mixed = []
    for head, weight in enumerate(values.chunk(heads)):
        gram = weight @ moments @ weight.T
        low, full = attention[:, head], scores[:, head].softmax(-1)
        selection = F.one_hot(kept[head], weight.shape[0]).to(weight)
        inner = low.transpose(1, 2) @ low
        # Row-major M: (H ⊗ G) vec M = vec(A̲ᵀ A G), H = A̲ᵀ A̲, summed over the images.
        system = torch.einsum("bij,bkl->ikjl", inner, gram).flatten(2).flatten(0, 1)
        residual = ((low.transpose(1, 2) @ (full - low @ selection)) @ gram).sum(0)
        ridge = RIDGE * system.diagonal().mean()
        system.diagonal().add_(ridge.clamp_min(torch.finfo(system.dtype).tiny))
        mixed.append(selection + torch.linalg.solve(system, residual.flatten()).view_as(selection))
    return torch.stack(mixed)


def refine(statistics: Statistics, attention: Tensor, mix: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    """Find separable values that minimise ‖W_out (A̲ V̲ - A V)‖²: rank-1 SVD of M V, then alternating least squares.

    Args:
        statistics: of the calibration images.
        attention: A̲, (B, h, d, d').
        mix: M, (h, d', d).
        output: W_out, (C, C).

    Returns:
        1×1 weights (C', channels of the moments) and depth-wise kernels (C', taps).
    """
    scores, moments, values, taps = statistics
    per_head = output.unflatten(1, (attention.shape[1], -1)).transpose(0, 1)
    low = (per_head @ attention).transpose(1, 2).flatten(2)
    full = (per_head @ scores.softmax(-1)).transpose(1, 2).flatten(2) @ values
    composite = torch.cat([m @ v for m, v in zip(mix, values.chunk(len(mix)), strict=True)])
    left, singular, right = torch.linalg.svd(composite.unflatten(1, (-1, taps)), full_matrices=False)
    size = singular[:, 0].sqrt()[:, None]
    pointwise, depth = left[:, :, 0] * size, right[:, 0] * size
    inner = low.transpose(1, 2) @ low
    cross = low.transpose(1, 2) @ full
    for _ in range(SWEEPS):
        for row in range(len(pointwise)):
            kernels = (pointwise.unsqueeze(2) * depth.unsqueeze(1)).flatten(1)
            # The sum that this channel has to reach, all others fixed.
            wanted = cross[:, row] - inner[:, row] @ kernels + inner[:, row, row, None] * kernels[row]
            target = torch.einsum("bf,bfg->g", wanted, moments).view(-1, taps)
            quadratic = torch.einsum("b,bfg->fg", inner[:, row, row], moments).view(
                len(target), taps, len(target), taps
            )
            system = torch.einsum("ckdl,k,l->cd", quadratic, depth[row], depth[row])
            pointwise[row] = solve_ridge(system, target @ depth[row], pointwise[row])
            if taps > 1:
                halved = (pointwise[row] @ quadratic.view(len(target), -1)).view(taps, len(target), taps)
                system = torch.einsum("kdl,d->kl", halved, pointwise[row])
                depth[row] = solve_ridge(system, pointwise[row] @ target, depth[row])
    return pointwise, depth


def solve_ridge(system: Tensor, target: Tensor, start: Tensor) -> Tensor:
    """Solve the normal equations of least squares with a ridge towards `start`."""
    ridge = RIDGE * system.diagonal().mean() + torch.finfo(system.dtype).tiny
    regular = system + ridge * torch.eye(len(system), dtype=system.dtype, device=system.device)
    return start + torch.linalg.solve(regular, target - system @ start)
