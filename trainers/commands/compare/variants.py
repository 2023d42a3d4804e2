"""The variants of a network that `lowrank compare` puts side by side."""

import copy
from collections.abc import Sequence
from pathlib import Path

from torch import nn

import nystra
from nystra.sites.site import BiasMode
from trainers.networks import load_network
from trainers.reports.comparison import RELEASED

KERNELS: tuple[nystra.Kernel, ...] = (
    nystra.ContentPooling(),
    nystra.LandmarkPooling(),
    nystra.Nystrom(),
    nystra.Nystromformer(),
)


def build_variants(
    pretrained: Path,
    kernels: Sequence[nystra.Kernel],
    window_size: int | None,
    position_bias: BiasMode,
    network: str | None = None,
) -> dict[str, nn.Module]:
    """The released model, its enlarged forms and its substituted ones, by name.

    A network of another library comes twice: as it is, and with exact attention by this package.

    Raises:
        CheckpointError: if the checkpoint is of no such model.
        ValueError: if a kernel does not fit the windows.
    """
    # With the windows and kernels that it was fine-tuned with, if it was; then without, for others to take their place.
    released = load_network(pretrained, network) if network else nystra.load_pretrained(pretrained)
    variants: dict[str, nn.Module] = {RELEASED: released}
    enlarged = released
    if network is not None:
        # As its authors' code computes it; then by this package's programs.
        variants[RELEASED] = copy.deepcopy(released)
        nystra.release(variants[RELEASED])
        variants[str(nystra.Softmax())] = released
    if window_size is not None:
        plain = nystra.load_pretrained(pretrained, recorded=False)
        enlarged = copy.deepcopy(plain)
        plain.set_window(window_size, "drop")
        enlarged.set_window(window_size, position_bias)
        variants[f"window {window_size}, no bias"] = plain
        if position_bias != "drop":
            variants[f"window {window_size}, bias"] = enlarged
    for kernel in kernels:
        net = copy.deepcopy(enlarged)
        nystra.substitute(net, kernel)
        variants[str(kernel)] = net
    return variants
