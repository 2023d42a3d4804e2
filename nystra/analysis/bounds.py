"""Error of the Nyström approximation of a window's exponential kernel, and a bound on it.

With K = exp(Q Kᵀ + bias) (N×N), landmark blocks F, A, G and the extended kernel E = [[A, G], [F, K]] of Eq. (3), the
approximation K̂ = F A⁻¹ G leaves the Schur complement S = K - K̂ of A in E (PnP-Nystra, section 2.1). Factoring
E = 𝓛 diag(A, S) 𝓡 with unit triangular 𝓛 = [[I, 0], [F A⁻¹, I]] and 𝓡 = [[I, A⁻¹ G], [0, I]], and with
c = ‖𝓛⁻¹‖ ‖𝓡⁻¹‖, every singular value of diag(A, S) is at most c times E's of the same number. So either
‖S‖ <= σ_m(A) and ‖S‖ <= c σ_{m+1}(E), or σ_m(A) <= c σ_{m+1}(E) and, as ‖S‖ <= c ‖E‖ always,
‖S‖ <= c² ‖E‖/σ_m(A) · σ_{m+1}(E). Lemma 2.1 states such a bound with a constant that it leaves open; this constant is
derived here.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nystra.kernels.landmark_blocks import BlockTables
from nystra.sites.observation import observed
from nystra.sites.substitution import Sites, find_sites
from nystra.windows.geometry import WindowGeometry, WindowKind

# Singular values below this share of the largest count as zero in a rank, in float64.
RANK_TOLERANCE = 1e-10


class NystromError(NamedTuple):
    """Errors of the Nyström approximation with landmarks, for every window and head, float64, (W, h).

    Kernels are divided by their largest entry, so that exponentials of large logits do not overflow; errors and
    singular values scale alike.

    Attributes:
        error: ‖K - K̂‖₂.
        norm: ‖K‖₂.
        next_singular_value: σ_{m+1} of the extended kernel.
        bound: on `error`; infinite where A is singular.
        rank: of the extended kernel; where it is m and A is regular, K̂ = K (Corollary 2.2).

    Examples:
        >>> from nystra.analysis import NystromError
        >>> NystromError._fields
        ('error', 'norm', 'next_singular_value', 'bound', 'rank')
    """

    error: Tensor
    norm: Tensor
    next_singular_value: Tensor
    bound: Tensor
    rank: Tensor


def nystrom_error(query: Tensor, key: Tensor, kind: WindowKind, landmarks: int) -> NystromError:
    """Compute and bound the error of K̂ = F A⁻¹ G for windows of one kind.

    Args:
        query: (W, h, N, d), scale folded in.
        key: (W, h, N, d).
        kind: window, bias and mask.
        landmarks: m, means over cells of the window; as near to it as fits, see `Kernel.fitted`.

    Returns:
        Errors and bounds, (W, h) each, computed in float64.

    Examples:
        >>> import torch
        >>> from nystra.analysis import nystrom_error
        >>> from nystra.windows import WindowKind
        >>> kind = WindowKind((4, 4), split=(None, None), bias=None, device=torch.device("cpu"))
        >>> query, key = torch.randn(2, 3, 2, 16, 4, generator=torch.Generator().manual_seed(0))
        >>> result = nystrom_error(query, key, kind, landmarks=4)
        >>> result.error.shape, bool((result.error <= result.bound).all())
        (torch.Size([3, 2]), True)
    """
    query, key = query.double(), key.double()
    cross, core, marks = BlockTables.of(kind, landmarks, torch.float64).logits(query, key)
    exact = query @ key.transpose(2, 3)
    if kind.has_bias:
        exact = exact + kind.all_logits().double()
    landmarks = core.shape[3]
    most = torch.stack([block.amax((2, 3)) for block in (cross, core, marks, exact)]).amax(0)[..., None, None]
    cross, core, marks, exact = ((block - most).exp() for block in (cross, core, marks, exact))
    extended = torch.cat([torch.cat([core, marks], 3), torch.cat([cross, exact], 3)], 2)
    singular = torch.linalg.svdvals(extended)
    own = torch.linalg.svdvals(core)
    solvable = own[..., -1] > torch.finfo(torch.float64).eps * own[..., 0] * landmarks
    # A pseudo-inverse stands for A⁻¹ where A is singular: the error is that of what would be computed.
    inverse = torch.linalg.pinv(core)
    left, right = cross @ inverse, inverse @ marks
    error = torch.linalg.matrix_norm(exact - left @ marks, 2)
    factor = _triangular_norm(left) * _triangular_norm(right)
    constant = factor * torch.maximum(torch.ones_like(factor), factor * singular[..., 0] / own[..., -1])
    following = singular[..., landmarks]
    bound = torch.where(solvable, constant * following, torch.inf)
    rank = (singular > RANK_TOLERANCE * singular[..., :1]).sum(-1)
    return NystromError(error, torch.linalg.matrix_norm(exact, 2), following, bound, rank)


def _triangular_norm(block: Tensor) -> Tensor:
    """Spectral norm of [[I, 0], [B, I]], and of its inverse: (b + √(b² + 4))/2 with b = ‖B‖₂."""
    norm = torch.linalg.matrix_norm(block, 2)
    return (norm + (norm.square() + 4).sqrt()) / 2


class SiteBound(NamedTuple):
    """Relative errors of one site, over all its windows, heads and images.

    Attributes:
        error: mean of ‖K - K̂‖₂/‖K‖₂.
        worst: largest.
        next_singular_value: mean of σ_{m+1}/‖K‖₂.
        bound: median of the bound over ‖K‖₂.
        rank: mean rank of the extended kernel.

    Examples:
        >>> from nystra.analysis import SiteBound
        >>> SiteBound(error=0.1, worst=0.3, next_singular_value=0.05, bound=4.0, rank=16.0).worst
        0.3
    """

    error: float
    worst: float
    next_singular_value: float
    bound: float
    rank: float


def site_bounds(
    net: nn.Module, images: Iterable[Tensor], landmarks: int, *, sites: Sites = None, windows: int = 16
) -> dict[str, SiteBound]:
    """Compute the Nyström approximation's errors and bounds at every site of a net, on some images.

    Args:
        net: host with window attentions, run without gradients.
        images: inputs of the net.
        landmarks: m.
        sites: which window attentions; None: all.
        windows: largest number of windows of each kind at a site and image, evenly spread, >= 1; each costs the
            singular values of an (N + m)×(N + m) matrix.

    Returns:
        Name of the site → relative errors.

    Raises:
        ValueError: if there are no sites or images, or `landmarks` does not divide a site's window.

    Examples:
        >>> import torch
        >>> from nystra import SwinIR
        >>> from nystra.analysis import site_bounds
        >>> net = SwinIR(img_size=8, embed_dim=8, depths=[2], num_heads=[2], window_size=4).eval()
        >>> bounds = site_bounds(net, [torch.rand(1, 3, 8, 8)], landmarks=4)
        >>> [bound.error <= bound.worst for bound in bounds.values()]
        [True, True]
    """
    found = find_sites(net, sites)
    errors: dict[str, list[NystromError]] = {name: [] for name in found}

    def observe(name: str, query: Tensor, key: Tensor, _value: Tensor, geometry: WindowGeometry) -> None:
        # Of maps: tokens beside them are attended exactly.
        grids = [geometry.of_maps(tensor).unflatten(0, (-1, *geometry.grid)) for tensor in (query, key)]
        for places, kind in geometry.kinds(query.device):
            chosen = [grid[(slice(None), *places)].flatten(0, -4) for grid in grids]
            count = chosen[0].shape[0]
            some = torch.linspace(0, count - 1, min(windows, count)).round().long()
            errors[name].append(nystrom_error(chosen[0][some], chosen[1][some], kind, landmarks))

    with observed(found, observe), torch.no_grad():
        for image in images:
            net(image)
    if not all(errors.values()):
        raise ValueError("images must hold at least one image that reaches every site, got none")
    return {name: _summary(found_there) for name, found_there in errors.items()}


def _summary(errors: list[NystromError]) -> SiteBound:
    parts = zip(*((part.flatten().double() for part in error) for error in errors), strict=True)
    error, norm, following, bound, rank = (torch.cat(part) for part in parts)
    relative = error / norm
    return SiteBound(
        float(relative.mean()),
        float(relative.max()),
        float((following / norm).mean()),
        float((bound / norm).median()),
        float(rank.mean()),
    )
