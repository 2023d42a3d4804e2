"""Energy of the attention spectrum (GLMHA, Fig. 1): the rank that a network's channel attention needs."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from glmha.attention.base import ChannelAttention


def spectrum(net: nn.Module, images: Iterable[Tensor]) -> dict[str, Tensor]:
    """Compute the cumulative energy of the singular values of every channel attention matrix.

    Args:
        net: host with `ChannelAttention` modules; run in its present mode, without gradients.
        images: inputs of the net, each (B, C, H, W).

    Returns:
        Name of the module → share of the energy (sum of squared singular values) in the first i + 1 of them, averaged
        over heads and images, shape (d,) float64 for d columns of a head's matrix, rising to 1.

    Raises:
        ValueError: if the net has no channel attention of this package or there is no image.

    Examples:
        >>> import torch
        >>> from glmha import ChannelAttention
        >>> from glmha.spectrum import spectrum
        >>> net = torch.nn.Sequential(ChannelAttention(8, heads=2))
        >>> energy = spectrum(net, [torch.rand(1, 8, 16, 16)])
        >>> {name: values.shape for name, values in energy.items()}, round(float(energy["0"][-1]), 6)
        ({'0': torch.Size([4])}, 1.0)
    """
    with recorded(net) as energies, torch.no_grad():
        for image in images:
            net(image)
    if not energies[next(iter(energies))]:
        raise ValueError("images must hold at least one image, got none")
    return {name: torch.cat(rows).mean(0) for name, rows in energies.items()}


@contextmanager
def recorded(net: nn.Module, sites: Collection[str] | None = None) -> Iterator[dict[str, list[Tensor]]]:
    """Record the spectra of a net's attention matrices during every forward pass inside the `with` block.

    Args:
        net: host with `ChannelAttention` modules.
        sites: names of those to record; None: all.

    Returns:
        Name of the module → one (B·h, d) tensor for every call of it, as `cumulative_energy` gives.

    Raises:
        ValueError: if the net has no channel attention of this package, or none under these names.

    Examples:
        >>> import torch
        >>> from glmha import ChannelAttention
        >>> from glmha.spectrum import recorded
        >>> net = torch.nn.Sequential(ChannelAttention(8, heads=2))
        >>> with recorded(net) as energies:
        ...     _ = net(torch.rand(3, 8, 16, 16))
        >>> [rows.shape for rows in energies["0"]]
        [torch.Size([6, 4])]
    """
    found = {
        name: module
        for name, module in net.named_modules()
        if isinstance(module, ChannelAttention) and (sites is None or name in sites)
    }
    if not found:
        raise ValueError("net must contain a glmha.ChannelAttention, got none: its spectrum is what is measured")
    energies: dict[str, list[Tensor]] = {name: [] for name in found}

    def watch(name: str, attention: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Callable[[Tensor], Any]:
        def record(x: Tensor) -> tuple[Tensor, Tensor]:
            matrix, value = attention(x)
            energies[name].append(cumulative_energy(matrix.detach()))
            return matrix, value

        return record

    for name, module in found.items():
        # In place of the method, so that nothing is computed twice.
        vars(module)["attention"] = watch(name, module.attention)
    try:
        yield energies
    finally:
        for module in found.values():
            del vars(module)["attention"]


def cumulative_energy(attention: Tensor) -> Tensor:
    """Compute the share of the energy in the leading singular values.

    Args:
        attention: matrices, (B, h, d, d').

    Returns:
        Shape (B·h, min(d, d')), float64, rising to 1.

    Examples:
        >>> import torch
        >>> from glmha.spectrum import cumulative_energy
        >>> cumulative_energy(torch.eye(4)[None, None]).tolist()
        [[0.25, 0.5, 0.75, 1.0]]
    """
    energy = torch.linalg.svdvals(attention.flatten(0, 1).double()).square().cumsum(1)
    return energy / energy[:, -1:]


def rank_for_energy(energy: Tensor, share: float) -> int:
    """Find the smallest rank whose singular values hold a share of the energy.

    Args:
        energy: cumulative energy, (d,), as `spectrum` gives.
        share: above 0, at most 1.

    Returns:
        Rank, 1 to d.

    Raises:
        ValueError: if `share` is out of range.

    Examples:
        >>> import torch
        >>> from glmha.spectrum import rank_for_energy
        >>> rank_for_energy(torch.tensor([0.5, 0.8, 0.95, 1.0]), 0.9)
        3
    """
    if not 0 < share <= 1:
        raise ValueError(f"share ({share}) must be above 0 and at most 1")
    # Rounding may leave the last value slightly below 1.
    return min(int((energy < share - 1e-12).sum()) + 1, len(energy))
