"""How far a kernel's outputs are from exact attention's, at one site."""

import torch
from torch import Tensor

from nystra.kernels.base import Kernel
from nystra.kernels.softmax import Softmax
from nystra.windows.geometry import WindowGeometry


@torch.no_grad()
def kernel_error(
    kernel: Kernel, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, *, windows: int = 8
) -> float:
    """Relative error of a kernel's outputs against exact attention's, on some of the windows.

    Args:
        kernel: of the site.
        query: (W, h, N, d), scale folded in.
        key: (W, h, N, d).
        value: (W, h, N, d).
        geometry: of the windows.
        windows: at most so many of each kind (inner ones, and those at borders) are attended, evenly spread, >= 1.

    Returns:
        ‖kernel - softmax‖/‖softmax‖ in the Frobenius norm; 0 for exact attention, about 1 for no relation.

    Raises:
        ValueError: if `windows` is below 1.
    """
    if windows < 1:
        raise ValueError(f"windows ({windows}) must be at least 1")
    device = query.device.type
    if torch.is_autocast_enabled(device):
        # As kernels are called: autocast says in which precision tokens come, and no more.
        query, key, value = (tensor.to(torch.get_autocast_dtype(device)) for tensor in (query, key, value))
        with torch.autocast(device, enabled=False):
            return kernel_error(kernel, query, key, value, geometry, windows=windows)
    exact = Softmax()
    difference = norm = 0.0
    grids = [tensor.unflatten(0, (-1, *geometry.grid)) for tensor in (query, key, value)]
    for rows, columns, kind in geometry.kinds(query.device):
        parts = [grid[:, rows, columns].flatten(0, 2) for grid in grids]
        count = parts[0].shape[0]
        chosen = torch.linspace(0, count - 1, min(windows, count)).round().long()
        some = [part[chosen.to(part.device)] for part in parts]
        # Tables of their own: exact attention's are large, and those in use belong to the net's forward pass.
        ours, wanted = (
            each.attend(some[0], some[1], some[2], each.tables(kind, query.dtype)).float() for each in (kernel, exact)
        )
        # Windows that stand for many of their kind count for as many.
        weight = count / len(chosen)
        difference += weight * float((ours - wanted).square().sum())
        norm += weight * float(wanted.square().sum())
    return (difference / norm) ** 0.5 if norm else 0.0
