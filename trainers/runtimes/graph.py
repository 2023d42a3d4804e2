"""A network as a graph of operators, for images of any size, without native programs: recorded, and its samples."""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from glmha.attention.performer import PerformerChannelAttention
from glmha.attention.reformer import ReformerChannelAttention
from nystra.programs.operators import plain_torch
from nystra.sites.site import WindowAttention
from trainers.runtimes.description import Description, GraphFormat, graph_sides

# Names of the graph's input and output.
INPUT, OUTPUT = "image", "restored"
# The first in which layer norms are one operator and mirrored padding is on every axis; TensorRT's parser has it.
OPSET = 18


class ImageGraph(nn.Module):
    """A network in some precision between images in float32, with padding inside where it is asked for.

    Args:
        net: one of the hosts; left as it is.
        description: of the graph.
        format: of its file.
        freeze: whether tables of position bias and masks are constants; else they are computed of parameters.
    """

    def __init__(self, net: nn.Module, description: Description, *, format: GraphFormat, freeze: bool) -> None:
        super().__init__()
        self.multiple, self.least = graph_sides(net, format, description.size)
        self.pads = description.least < self.least
        self.scale = description.scale
        self.dtype = getattr(torch, description.precision)
        self.net = copy.deepcopy(net).to(self.dtype)
        self.eval().requires_grad_(False)
        self.image = sample(description, recorded_size(description), 1 if description.size else 2)
        # Tables and random directions are made by a call, with values, and not while operations are recorded.
        with plain_torch(), torch.no_grad():
            self(self.image)
        for module in self.modules():
            if isinstance(module, WindowAttention) and freeze:
                module.freeze_tables()

    def forward(self, image: Tensor) -> Tensor:
        """Restore images (B, C, H, W) of the network's value range."""
        height, width = image.shape[2:]
        if self.pads:
            image = padded(padded(image, 2, self.multiple, self.least), 3, self.multiple, self.least)
        if torch.compiler.is_exporting() and self.multiple > 1:
            # Sides are multiples by their shape: or every later size would have to be shown to be whole, in minutes.
            rows, columns = (side // self.multiple * self.multiple for side in image.shape[2:])
            image = image[:, :, :rows, :columns]
        restored = self.net(image.to(self.dtype)).float()
        return restored[:, :, : height * self.scale, : width * self.scale] if self.pads else restored


def restore_padded(net: nn.Module, description: Description, format: GraphFormat, image: Tensor) -> Tensor:
    """Restore images by a network itself, padded as a graph of this description and format pads them."""
    multiple, least = graph_sides(net, format, description.size)
    if description.least == least:
        return net(image)
    height, width = image.shape[2:]
    restored = net(padded(padded(image, 2, multiple, least), 3, multiple, least))
    return restored[:, :, : height * description.scale, : width * description.scale]


def padded(image: Tensor, axis: int, multiple: int, least: int) -> Tensor:
    """Mirror images at the bottom or right, to and fro, until that side is a multiple and as large as the least."""
    side = image.shape[axis]
    until = multiple * _at_least((side + multiple - 1) // multiple, -(-least // multiple))
    places = torch.arange(until, device=image.device) % _at_least(2 * side - 2, 1)
    return image.index_select(axis, torch.minimum(places, 2 * side - 2 - places).abs())


def _at_least(number: int | Tensor, least: int) -> Any:
    # `torch.jit.trace` gives sizes as tensors.
    return number.clamp_min(least) if isinstance(number, Tensor) else torch.sym_max(number, least)


def refuse_many_sizes(net: nn.Module, format: GraphFormat, *, pad: bool) -> None:
    """Refuse a graph that can only be for images of one size.

    Raises:
        ValueError: naming the module, or the format.
    """
    if pad and format in ("torch-export", "aot"):
        raise ValueError(
            f"pad (true) must be false for {format} at any size, where torch.export cannot prove what padding adds: "
            "lowrank restore pads to what the file states; or give size"
        )
    for name, module in net.named_modules():
        if isinstance(module, PerformerChannelAttention | ReformerChannelAttention):
            raise ValueError(
                f"size (null) must be given: {type(module).__name__} ({name}) draws random directions over an image's "
                "pixels, others for another size"
            )


def record_program(graph: ImageGraph, description: Description) -> ExportedProgram:
    """Record a graph's operations by `torch.export`, strictly."""
    shapes = None
    if description.size is None:
        sides = {axis: _dimension(name, description) for axis, name in ((2, "height"), (3, "width"))}
        shapes = ({0: Dim("batch", min=1), **sides},)
    with plain_torch(), torch.no_grad():
        return torch.export.export(graph, (graph.image,), dynamic_shapes=shapes, strict=True)


def _dimension(name: str, description: Description) -> Dim:
    return description.size_multiple * Dim(name, min=description.least // description.size_multiple)


def record_onnx(graph: ImageGraph, description: Description, path: Path) -> None:
    """Record a graph's operations by `torch.jit.trace` and write them as ONNX.

    The exporter of `torch.export`'s programs proves every size that occurs. Of a network of the released size that
    takes an hour; this one takes a minute, and its graph takes the same images.
    """
    axes = {0: "batch", 2: "height", 3: "width"}
    larger = {0: "batch", 2: "restored_height", 3: "restored_width"}
    # The exporter prints a graph that it cannot write, which may be a million characters.
    quiet = contextlib.redirect_stdout(io.StringIO())
    with plain_torch(), torch.no_grad(), warnings.catch_warnings(), quiet:
        # Of sizes that decide something here, which decide the same at every size, and of this exporter's age.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            (graph.image,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes=None if description.size else {INPUT: axes, OUTPUT: larger},
        )


def _side(description: Description, wanted: int) -> int:
    """The smallest side that a graph takes, of so many pixels at least."""
    multiple = description.size_multiple
    return -(-max(description.least, wanted) // multiple) * multiple


def recorded_size(description: Description) -> tuple[int, int]:
    """Height and width of the images at which operations are recorded."""
    if description.size is not None:
        return description.size
    multiple, least = description.size_multiple, _side(description, 16)
    # Of a network that pads by itself no side of a map is whole, so that padding is recorded.
    return (least + 2, least + 11) if multiple == 1 else (least + multiple, least + 2 * multiple)


def checked_sizes(description: Description) -> list[tuple[int, int, int]]:
    """Number, height and width of the images at which a written graph is compared: two sizes, none of the recorded."""
    if description.size is not None:
        return [(1, *description.size)] * 2
    multiple, least = description.size_multiple, _side(description, 13)
    return [(1, least, least + multiple), (2, least + 3 * multiple, least)]


def sample(description: Description, size: tuple[int, int], count: int, seed: int = 0) -> Tensor:
    """Images of noise, (count, C, H, W), in the network's value range."""
    low, high = description.value_range
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, description.channels, *size, generator=generator) * (high - low) + low
