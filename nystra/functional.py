"""Linear-time window attention as pure tensor maths.

Notation: W windows, h heads, N tokens of a window, d channels of a head, m landmarks, s cells of keys. Queries carry
the scale. "logits" are scaled dot products with bias and mask; kernels are computed in float32 at least.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.autograd import forward_ad

from glmha.shared.graphs import is_recorded
from glmha.shared.precision import at_least_float32

# Keeps every feature above zero, as Performer's code does.
FEATURE_EPSILON = 1e-4


def add(logits: Tensor, bias: Tensor | None) -> Tensor:
    """Add a static bias to logits; None is no bias."""
    return logits if bias is None else logits + bias


def differentiated(tensors: Iterable[Tensor]) -> bool:
    """Whether what is computed of tensors may be differentiated by them: backwards, or forwards (`torch.func.jvp`)."""
    # Which tensors have tangents cannot be asked within other transforms of torch.func.
    forwards = forward_ad._current_level >= 0
    return forwards or (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))


def pool(tokens: Tensor, count: int) -> Tensor:
    """Mean over groups of neighbours in a sequence: (W, h, N, d), count divides N → (W, h, count, d)."""
    return tokens.unflatten(2, (count, -1)).mean(3)


def iterative_pseudo_inverse(matrix: Tensor, iterations: int, *, start: Tensor) -> Tensor:
    """Razavi's iteration Z ← ¼ Z (13 I - AZ (15 I - AZ (7 I - AZ))) for A⁺ (PnP-Nystra, section 2.2).

    Args:
        matrix: A, (..., m, m).
        iterations: number of iterations, >= 1.
        start: Z₀; converges if the singular values of A Z₀ are below 2.

    Returns:
        Approximation of A⁺, (..., m, m).
    """
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    inverse = start
    for _ in range(iterations):
        product = matrix @ inverse
        inverse = 0.25 * inverse @ (13 * identity - product @ (15 * identity - product @ (7 * identity - product)))
    return inverse


def transposed_over_norms(matrix: Tensor, *, whole_batch: bool) -> Tensor:
    """Z₀ = Aᵀ / (‖A‖₁ ‖A‖_∞).

    Args:
        matrix: A, (..., m, m), no negative entries.
        whole_batch: whether the largest norms of the batch hold for all matrices, as in the authors' code. Then the
            images of a batch are coupled.
    """
    columns = matrix.sum(-2).amax(-1)
    rows = matrix.sum(-1).amax(-1)
    if whole_batch:
        columns, rows = columns.max(), rows.max()
    return matrix.transpose(-1, -2) / (columns * rows)[..., None, None]


def ridge_solve(core: Tensor, target: Tensor, ridge: float) -> Tensor:
    """Aᵀ(A Aᵀ + λ·tr(A Aᵀ)/m·I)⁻¹ B: the regularised solution X of A X = B.

    Args:
        core: A, (..., m, s).
        target: B, (..., m, d).
        ridge: λ, above 0 or the system may be singular.

    Returns:
        Shape (..., s, d).
    """
    gram = core @ core.transpose(-1, -2)
    mean = gram.diagonal(dim1=-2, dim2=-1).mean(-1)
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    regular = gram + (ridge * mean)[..., None, None] * identity
    if is_recorded():
        return core.transpose(-1, -2) @ eliminate(regular, target)
    factor = torch.linalg.cholesky(regular)
    return core.transpose(-1, -2) @ torch.cholesky_solve(target, factor)


def eliminate(matrix: Tensor, target: Tensor) -> Tensor:
    """Solve A X = B by Gauss-Jordan elimination without exchanges, in operations that every runtime has.

    Args:
        matrix: A, (..., m, m), positive definite.
        target: B, (..., m, d).

    Returns:
        X, (..., m, d).
    """
    units = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    rest = torch.cat([matrix, target], -1)
    for row in range(matrix.shape[-1]):
        pivot = rest[..., row : row + 1, :]
        rest = rest[..., 1:] - (rest[..., :1] - units[:, row : row + 1]) * (pivot[..., 1:] / pivot[..., :1])
    return rest


def weighted_cells(weights: Tensor, tokens: Tensor) -> Tensor:
    """Sum the tokens of each cell with the landmarks' weights.

    Args:
        weights: (W, h, m, s, t), t tokens of a cell.
        tokens: (W, h, s, t, d).

    Returns:
        Shape (W, h, m, s, d).
    """
    return (weights.transpose(2, 3) @ tokens).transpose(2, 3)


def random_features(tokens: Tensor, directions: Tensor, *, keys: bool) -> Tensor:
    """Positive random features of the exponential kernel (FAVOR+ of Performer, Choromanski et al., Eq. 5).

    Args:
        tokens: queries or keys x, (W, h, N, d), the scale shared out between them.
        directions: ω, (M, d).
        keys: whether tokens are keys. Keys share one maximum per head, each query has one: both cancel in the
            normalisation.

    Returns:
        (exp(ω·x - ‖x‖²/2 - max ω·x) + ε) / √M, shape (W, h, N, M), float32 at least.
    """
    return features_and_maxima(tokens, directions, keys=keys)[0]


def features_and_maxima(tokens: Tensor, directions: Tensor, *, keys: bool) -> tuple[Tensor, Tensor]:
    """Compute `random_features`, and the maxima that are subtracted in their exponents: (W, h, N or 1, 1)."""
    wide = at_least_float32(tokens)
    exponents = wide @ directions.to(wide.dtype).T
    most = exponents.amax((-2, -1) if keys else -1, keepdim=True)
    squares = wide.square().sum(-1, keepdim=True) / 2
    return ((exponents - squares - most).exp() + FEATURE_EPSILON) / directions.shape[0] ** 0.5, most


def orthogonal_directions(count: int, channels: int, generator: torch.Generator) -> Tensor:
    """Random directions for `random_features`, orthogonal in blocks of `channels`, of Gaussian length: (count, d)."""
    blocks = []
    for _ in range(-(-count // channels)):
        basis, triangle = torch.linalg.qr(torch.randn(channels, channels, generator=generator))
        # Without these signs some directions would be more frequent than their opposites (Mezzadri, 2007).
        blocks.append((basis * triangle.diagonal().sign()).T)
    lengths = torch.randn(count, channels, generator=generator).norm(dim=1)
    return torch.cat(blocks)[:count] * lengths.unsqueeze(1)


def low_rank_factors(bias: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Give factors (heads, N, r) of a bias (heads, N, N): its projection to its first r left singular vectors.

    The vectors are held fixed by gradients: equal singular values would have none.
    """
    wide = bias.double()
    with torch.no_grad():
        left, values = _left_vectors(wide, rank)
        left, values = left[..., :rank], values[:, None, :rank]
        # Beyond a bias' rank there is rounding only, and where a bias is 0 nothing else: such channels are 0.
        significant = values > torch.finfo(bias.dtype).eps * len(bias[0]) * values[..., :1]
        root = torch.where(significant, values, 1.0).sqrt()
        left = torch.where(significant, left, 0.0)
    return (left * root).to(bias.dtype), (wide.mT @ (left / root)).to(bias.dtype)


def _left_vectors(bias: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """First left singular vectors (heads, N, r') and values (heads, r') of a bias (heads, N, N), r' >= min(r, N)."""
    tokens, spare = len(bias[0]), 8
    if tokens <= 4 * (rank + spare):
        return torch.linalg.svd(bias, full_matrices=False)[:2]
    # By subspace iteration from the columns of tokens that are spread over the window: all vectors would take minutes.
    basis = bias[..., torch.linspace(0, tokens - 1, rank + spare, device=bias.device).long()]
    for _ in range(4):
        basis = bias @ (bias.mT @ torch.linalg.qr(basis).Q)
    basis = torch.linalg.qr(basis).Q
    left, values, _ = torch.linalg.svd(basis.mT @ bias, full_matrices=False)
    return basis @ left, values
