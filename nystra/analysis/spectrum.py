"""Spectra of window attention (PnP-Nystra, Fig. 1): the rank that its weights have."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nystra.analysis.weights import attention_weights
from nystra.sites.observation import observed
from nystra.sites.substitution import Sites, find_sites
from nystra.windows.geometry import WindowGeometry


class WindowSpectrum(NamedTuple):
    """Singular values of one site's matrices of weights, mean over windows, heads and images, float64, (N,).

    Attributes:
        singular_values: each as a share of its matrix' largest; the first is 1.
        energy: share of the energy (sum of squared singular values) in the first i + 1 of them, rising to 1.

    Examples:
        >>> from nystra.analysis import WindowSpectrum
        >>> WindowSpectrum._fields
        ('singular_values', 'energy')
    """

    singular_values: Tensor
    energy: Tensor


def window_spectra(
    net: nn.Module, images: Iterable[Tensor], *, sites: Sites = None, windows: int = 8
) -> dict[str, WindowSpectrum]:
    """Compute the singular values of the weights at every site of a net, on some images, under its present kernels.

    Args:
        net: host with window attentions, run without gradients.
        images: inputs of the net.
        sites: which window attentions; None: all.
        windows: largest number of windows of each kind at a site and image, evenly spread, >= 1.

    Returns:
        Name of the site → its spectrum.

    Raises:
        ValueError: if there are no sites or no image that reaches them, or `windows` is below 1.

    Examples:
        >>> import torch
        >>> from nystra import SwinIR
        >>> from nystra.analysis import window_spectra
        >>> net = SwinIR(img_size=8, embed_dim=8, depths=[1], num_heads=[2], window_size=4).eval()
        >>> (spectrum,) = window_spectra(net, [torch.rand(1, 3, 8, 8)]).values()
        >>> len(spectrum.energy), float(spectrum.singular_values[0])
        (16, 1.0)
    """
    if windows < 1:
        raise ValueError(f"windows ({windows}) must be at least 1")
    found = find_sites(net, sites)
    kernels = {name: site.kernel for name, site in found.items()}
    values: dict[str, list[Tensor]] = {name: [] for name in found}

    def observe(name: str, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry) -> None:
        # Of maps: tokens beside them are attended exactly.
        grids = [geometry.of_maps(tensor).unflatten(0, (-1, *geometry.grid)) for tensor in (query, key, value)]
        for places, kind in geometry.kinds(query.device):
            chosen = [grid[(slice(None), *places)].flatten(0, -4) for grid in grids]
            count = chosen[0].shape[0]
            some = torch.linspace(0, count - 1, min(windows, count)).round().long()
            query, key, value = (part[some] for part in chosen)
            weights = attention_weights(kernels[name], query, key, value, kind)
            values[name].append(torch.linalg.svdvals(weights.flatten(0, 1).double()))

    with observed(found, observe), torch.no_grad():
        for image in images:
            net(image)
    if not all(values.values()):
        raise ValueError("images must hold at least one image that reaches every site, got none")
    return {name: _mean(torch.cat(parts)) for name, parts in values.items()}


def _mean(values: Tensor) -> WindowSpectrum:
    energy = values.square().cumsum(1)
    return WindowSpectrum((values / values[:, :1]).mean(0), (energy / energy[:, -1:]).mean(0))
