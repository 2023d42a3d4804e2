"""Networks of both halves of the package: loaded from one path, called in one range."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import glmha
import nystra
from glmha.shared.checkpoint_files import CheckpointError, read
from glmha.shared.image_network import STATED, ImageRules, image_rules
from glmha.shared.released.locate import locate
from glmha.shared.state_dicts import unwrap
from nystra.pretrained import FAMILIES
from nystra.sites import attention_record
from trainers.names import import_factory


def load_network(
    source: str | Path, network: str | None = None, *, argument: str = "pretrained", **options: Any
) -> nn.Module:
    """Build the network that a checkpoint belongs to, channel or window attention, and load it strictly.

    Args:
        source: checkpoint, as released or as trained here: a file, or a name or address (`glmha.load_pretrained`).
        network: function or class that makes a network of another library, as package.module:name; None: the network is
            of this package, and the checkpoint tells which.
        argument: name of the option or argument that gave the path, for messages.
        **options: of `nystra.load_pretrained` or `glmha.load_pretrained`, whichever it is.

    Returns:
        The network in eval mode and float32, on the CPU. One of another library is adopted (`nystra.adopt`).

    Raises:
        CheckpointError: if the file cannot be read, is of no network of this package or does not fit it.
        ValueError: if `network` cannot be imported or makes no network from images to images, or options do not fit it.
    """
    if network is not None:
        return _load_own(source, network, argument, **options)
    content = read(locate(source, argument), argument)
    weights = unwrap(content, f"{argument} ({source})")
    try:
        # What stands beside the weights says how windows attend.
        return (
            nystra.load_pretrained(content, **options)
            if FAMILIES.find(weights)
            else glmha.load_pretrained(weights, **options)
        )
    except CheckpointError as error:
        raise CheckpointError(str(error).replace("the given state dict", f"{argument} ({source})")) from None


def make_network(network: str) -> nn.Module:
    """Make a network of another library with the weights that it comes with, and adopt its attention.

    Args:
        network: function or class that makes it, as package.module:name.

    Raises:
        ValueError: see `load_network`.
    """
    net = _make(network)
    _adopt(net)
    return net


def _make(network: str) -> nn.Module:
    try:
        net = import_factory(network)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"network ({network}) must be the import path of what makes a network: {error}") from None
    if not isinstance(net, nn.Module):
        raise ValueError(f"network ({network}) must make a torch.nn.Module, got {type(net).__name__}")
    return net


def _adopt(net: nn.Module) -> None:
    net.float().eval()
    setattr(net, STATED, find_rules(net))
    nystra.adopt(net, sample_image(net))


def _load_own(
    source: str | Path,
    network: str,
    argument: str,
    *,
    recorded: bool = True,
    window_size: int | None = None,
    position_bias: str | None = None,
) -> nn.Module:
    """Make a network of another library, load it strictly, and adopt its attention."""
    for name, value in (("window_size", window_size), ("position_bias", position_bias)):
        if value is not None:
            raise ValueError(f"{name} ({value}) must be null with network ({network}), which keeps its windows")
    net = _make(network)
    content = read(locate(source, argument), argument)
    weights = unwrap(content, f"{argument} ({source})", net.state_dict())
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{argument} ({source}) must hold the weights of {network}: {error}") from None
    _adopt(net)
    if recorded:
        attention_record.apply_recorded(net, content, str(source))
    return net


SAMPLE_SIDE = 64
"""Least side in pixels of the image on which networks of other libraries are tried."""


def find_rules(net: nn.Module) -> ImageRules:
    """Find out what a network of another library demands of images, by trying it.

    Raises:
        ValueError: if it takes no image whose sides are multiples of 64 pixels, or gives none.
    """
    channels, problem = input_channels(net), ""
    for multiple in (1, 2, 4, 8, 16, 32, 64):
        # Sides that are multiples of this number, but of no larger one, and of different numbers of windows.
        height, width = SAMPLE_SIDE + multiple, 2 * SAMPLE_SIDE + multiple
        try:
            with torch.no_grad():
                result = net(torch.rand(1, channels, height, width))
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            problem = str(error).partition("\n")[0]
            continue
        if not isinstance(result, Tensor) or result.dim() != 4 or result.shape[1] != channels:
            raise ValueError(f"the network must give images of {channels} channels as one tensor, got {_shape(result)}")
        scales = {result.shape[2] / height, result.shape[3] / width}
        if len(scales) == 1 and min(scales).is_integer():
            stated = getattr(net, "value_range", (0.0, 1.0))
            return ImageRules(multiple, int(min(scales)), stated)
        problem = f"{_shape(result)} for (1, {channels}, {height}, {width})"
    raise ValueError(
        f"the network must take images whose sides are multiples of {SAMPLE_SIDE} pixels and keep or enlarge "
        f"them, got {problem}"
    )


def sample_image(net: nn.Module) -> Tensor:
    """An image on which the attention of a network of another library is found, (1, C, H, W), in its value range."""
    rules = image_rules(net)
    low, high = rules.value_range
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, input_channels(net), 2 * SAMPLE_SIDE, 3 * SAMPLE_SIDE, generator=generator)
    return image * (high - low) + low


def _shape(result: Any) -> str:
    return str(tuple(result.shape)) if isinstance(result, Tensor) else type(result).__name__


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
    stated = getattr(net, "in_channels", None)
    found = (module.in_channels for module in net.modules() if isinstance(module, nn.Conv2d))
    taken = stated if isinstance(stated, int) else next(found, 0)
    if taken not in (1, 3):
        raise ValueError(
            f"the network must restore images of 1 or 3 channels, got a network that takes {taken}; "
            "evaluate it with its own data module: lowrank test"
        )
    return taken
