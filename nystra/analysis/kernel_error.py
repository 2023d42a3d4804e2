"""Error of a kernel's outputs against those of exact attention, at one site."""

import torch
from torch import Tensor

from nystra.kernels.base import Kernel
from nystra.kernels.softmax import Softmax
from nystra.windows.geometry import WindowGeometry, WindowKind


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
        geometry: of the windows; with tokens beside the maps, N counts these, too.
        windows: largest number of windows of each kind (inner ones, and those at borders), evenly spread, >= 1.

    Returns:
        ‖kernel - softmax‖/‖softmax‖ in the Frobenius norm; 0 for exact attention, about 1 for no relation.

    Raises:
        ValueError: if `windows` is below 1.

    Examples:
        >>> import torch
        >>> from nystra import LandmarkPooling, WindowGeometry
        >>> from nystra.analysis import kernel_error
        >>> inputs = torch.randn(3, 1, 2, 64, 8, generator=torch.Generator().manual_seed(0))
        >>> geometry = WindowGeometry((8, 8))
        >>> coarse, fine = (kernel_error(LandmarkPooling(4, cells), *inputs, geometry) for cells in (4, 64))
        >>> coarse > 0.05, fine < 1e-5
        (True, True)
    """
    if windows < 1:
        raise ValueError(f"windows ({windows}) must be at least 1")
    device = query.device.type
    if torch.is_autocast_enabled(device):
        # Kernels are called so: autocast sets the precision of tokens alone.
        query, key, value = (tensor.to(torch.get_autocast_dtype(device)) for tensor in (query, key, value))
        with torch.autocast(device, enabled=False):
            return kernel_error(kernel, query, key, value, geometry, windows=windows)
    exact = Softmax()
    difference = norm = 0.0

    def outputs(each: Kernel, tokens: list[Tensor], kind: WindowKind) -> Tensor:
        # Tables are made anew and not kept: exact attention's are large, and the net's forward pass uses the kept ones.
        if geometry.extra is None:
            return each.attend(tokens[0], tokens[1], tokens[2], each.tables(kind, query.dtype))
        alone = WindowGeometry(geometry.window, bias=geometry.bias, extra=geometry.extra)
        return each(tokens[0], tokens[1], tokens[2], alone)

    grids = [tensor.unflatten(0, (-1, *geometry.grid)) for tensor in (query, key, value)]
    for places, kind in geometry.kinds(query.device):
        parts = [grid[(slice(None), *places)].flatten(0, -4) for grid in grids]
        count = parts[0].shape[0]
        chosen = torch.linspace(0, count - 1, min(windows, count)).round().long()
        some = [part[chosen.to(part.device)] for part in parts]
        actual, expected = (outputs(each, some, kind).float() for each in (kernel, exact))
        # Each window counts as often as there are windows of its kind that it stands for.
        weight = count / len(chosen)
        difference += weight * float((actual - expected).square().sum())
        norm += weight * float(expected.square().sum())
    return (difference / norm) ** 0.5 if norm else 0.0
