"""Networks of both halves of the package: loaded from one path, called in one range."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

import glmha
import nystra
from glmha.shared.checkpoint_files import CheckpointError, read
from glmha.shared.image_network import image_rules
from glmha.shared.state_dicts import unwrap
from nystra.pretrained import FAMILIES


def load_network(source: Path, **options: Any) -> nn.Module:
    """Build the network that a checkpoint belongs to, channel or window attention, and load it strictly.

    Args:
        source: checkpoint, as released or as trained here.
        **options: of `nystra.load_pretrained` or `glmha.load_pretrained`, whichever it is.

    Returns:
        The network in eval mode and float32, on the CPU.

    Raises:
        CheckpointError: if the file cannot be read, is of no network of this package or does not fit it.
    """
    content = read(Path(source))
    weights = unwrap(content, str(source))
    try:
        # What stands beside the weights says how windows attend.
        return (
            nystra.load_pretrained(content, **options)
            if FAMILIES.find(weights)
            else glmha.load_pretrained(weights, **options)
        )
    except CheckpointError as error:
        raise CheckpointError(str(error).replace("the given state dict", str(source))) from None


def in_unit_range(net: nn.Module, image: Tensor) -> Tensor:
    """Call a network, whatever its value range is, with an image of [0, 1]; the result is in [0, 1] as well."""
    low, high = image_rules(net).value_range
    if (low, high) == (0.0, 1.0):
        return net(image)
    return (net(image * (high - low) + low) - low) / (high - low)


def input_channels(net: nn.Module) -> int:
    """Channels of the images that a network takes, 1 or 3.

    Raises:
        ValueError: if it takes something else than images.
    """
    taken = next((module.in_channels for module in net.modules() if isinstance(module, nn.Conv2d)), 0)
    if taken not in (1, 3):
        raise ValueError(
            f"the network must restore images of 1 or 3 channels, got a network that takes {taken}; "
            "evaluate it with its own data module: lowrank test"
        )
    return taken
