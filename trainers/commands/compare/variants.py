"""The variants of a network that `lowrank compare` puts side by side."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import nystra
from glmha.shared.image_network import STATED, image_rules
from nystra.sites.site import BiasMode
from trainers.networks import load_network
from trainers.reports.comparison import RELEASED

KERNELS: tuple[nystra.Kernel, ...] = (
    nystra.ContentPooling(),
    nystra.LandmarkPooling(),
    nystra.Nystrom(),
    nystra.Nystromformer(),
)


PLANNED = "plan"


def build_variants(
    pretrained: str | Path,
    kernels: Sequence[nystra.Kernel],
    window_size: int | None,
    position_bias: BiasMode,
    network: str | None = None,
    plan: Path | None = None,
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
    if plan is not None:
        net = copy.deepcopy(enlarged)
        chosen = nystra.Plan.load(plan)
        chosen.apply(net)
        variants[PLANNED] = HalfPrecision(net) if chosen.precision == "bf16" else net
    return variants


class HalfPrecision(nn.Module):
    """A network under autocast to bfloat16, with results in float32."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        setattr(self, STATED, image_rules(net))

    def forward(self, image: Tensor) -> Tensor:
        """Restore images (B, C, H, W)."""
        with torch.autocast(image.device.type, torch.bfloat16):
            restored: Tensor = self.net(image)
        return restored.float()
