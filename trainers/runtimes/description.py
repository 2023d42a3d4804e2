"""What a graph says of itself: the demands and the origin of its network, as JSON under one key of its file."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, Literal, get_args

from torch import nn

from glmha.attention.base import ChannelAttention
from glmha.hosts.mst import MST, RGBMST
from glmha.hosts.mst_plus_plus import CassiMSTPlusPlus
from glmha.shared.image_network import image_rules
from nystra.hosts.dehazeformer.network import DehazeFormer
from nystra.hosts.uformer.network import LEVELS, Uformer
from nystra.sites import attention_record
from nystra.sites.host import WindowHost
from nystra.sites.site import sites_of
from trainers.evaluation.provenance import versions

KEY = "lowrank"
"""Key of the description in a file's own metadata."""

GraphFormat = Literal["torch-export", "onnx", "openvino", "aot"]
Precision = Literal["float32", "float16", "bfloat16"]


COARSEST: dict[type[WindowHost], int] = {Uformer: 2**LEVELS, DehazeFormer: 4}
"""Pixels of the image along one token of the coarsest map, where there are several maps."""


@dataclasses.dataclass(frozen=True)
class Description:
    """What a graph takes and gives, and where it comes from.

    Attributes:
        family: class of the network.
        attention: windows and kernels (`nystra.sites.attention_record`) or channel attentions with their options.
        channels: of the images that are taken.
        size_multiple: what heights and widths must be multiples of.
        least: smallest height and width that is taken.
        size: the only height and width that are taken; None: all such multiples.
        scale: output pixels per input pixel along each axis.
        value_range: values of black and white.
        precision: in which the graph computes; what it takes and gives is float32.
        versions: of the libraries that it was made with.
    """

    family: str
    attention: dict[str, Any]
    channels: int
    size_multiple: int
    least: int
    size: tuple[int, int] | None
    scale: int
    value_range: tuple[float, float]
    precision: Precision
    versions: dict[str, str]

    @classmethod
    def of(
        cls, net: nn.Module, *, format: GraphFormat, size: tuple[int, int] | None, precision: Precision, pad: bool
    ) -> Description:
        """Describe the graph of a network.

        Args:
            net: one of the hosts.
            format: of its file.
            size: the only height and width of the images; None: any.
            precision: in which the graph computes.
            pad: whether the graph pads images of other sizes.
        """
        rules = image_rules(net)
        multiple, least = graph_sides(net, format, size)
        return cls(
            family=type(net).__name__,
            attention=_attention(net),
            channels=_channels(net),
            size_multiple=1 if pad else multiple,
            least=1 if pad else least,
            size=size,
            scale=rules.scale,
            value_range=rules.value_range,
            precision=precision,
            versions=versions(),
        )

    def encoded(self) -> str:
        """The description as JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def decoded(cls, text: str) -> Description:
        """Read what `encoded` wrote.

        Raises:
            ValueError: if it is something else.
        """
        try:
            content = json.loads(text)
            content["size"] = None if content["size"] is None else _pair(content["size"], int)
            content["value_range"] = _pair(content["value_range"], (int, float))
            result = cls(**content)
            whole = (result.channels, result.size_multiple, result.least, result.scale)
            sound = all(type(number) is int and number >= 1 for number in whole)
            if not sound or result.precision not in get_args(Precision) or not isinstance(result.family, str):
                raise ValueError(f"numbers or words that no graph has: {text[:300]}")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"its description ({KEY}) must be as lowrank export writes it: {error!r}") from None
        return result


def _pair(values: Any, kind: Any) -> tuple[Any, Any]:
    first, second = values
    if not ((isinstance(first, kind) and isinstance(second, kind) and min(values) == first) or kind is int):
        raise ValueError(f"no pair of numbers: {values}")
    return first, second


def graph_sides(net: nn.Module, format: GraphFormat, size: tuple[int, int] | None) -> tuple[int, int]:
    """Multiple and smallest of the sides of images that one graph of a network serves.

    Each axis has two windows at least, so that shifted windows are of the same kinds at every size. `torch.export`
    takes a number that may be 1 for another kind: beside the last window it needs two others. It cannot prove what
    padding adds, either: there the maps of DehazeFormer are whole.

    Args:
        net: one of the hosts.
        format: of the graph's file.
        size: the only height and width; None: any.
    """
    multiple = image_rules(net).size_multiple
    if size is not None or not isinstance(net, WindowHost):
        return multiple, multiple if size else 2 * multiple
    program = format in ("torch-export", "aot")
    if isinstance(net, DehazeFormer) and not program:
        # It reflects the maps of each level by itself, by less than they are long.
        return multiple, 4 * max(net.window_size, 3)
    windows = {side for site in sites_of(net).values() for side in site.window_size} | {net.window_size}
    multiple = math.lcm(multiple, *(COARSEST.get(type(net), 1) * side for side in windows))
    return multiple, (3 if program else 2) * multiple


def _channels(net: nn.Module) -> int:
    """Channels of the images that a host takes.

    Raises:
        ValueError: if it takes something else than images.
    """
    if isinstance(net, MST | CassiMSTPlusPlus):
        raise ValueError(
            f"the network must take images, got {type(net).__name__}, which takes CASSI's measurement and mask: "
            "torch.export.export records it for one size"
        )
    first = net.embedding_1 if isinstance(net, RGBMST) else next(m for m in net.modules() if isinstance(m, nn.Conv2d))
    return first.in_channels


def _attention(net: nn.Module) -> dict[str, Any]:
    if isinstance(net, WindowHost):
        return attention_record.record(net)
    found = {
        name: {"class": type(module).__name__, **module.options}
        for name, module in net.named_modules()
        if isinstance(module, ChannelAttention)
    }
    kinds = list({json.dumps(kind): kind for kind in found.values()}.values())
    return kinds[0] if len(kinds) == 1 else {"modules": found}
