"""The verb `export`: a checkpoint's weights under the original architecture's keys, or its network as a graph."""

from pathlib import Path
from typing import Any, Literal, cast

import torch
from rich.console import Console

from datamodules.files.atomic import atomic_file
from glmha.shared.checkpoint_files import CARD, write_safetensors
from glmha.shared.released.locate import locate
from nystra.sites import attention_record
from trainers.errors import printable
from trainers.networks import load_network
from trainers.runs.cards import make_card
from trainers.runtimes.description import Precision
from trainers.runtimes.export import SUFFIXES, ExportedGraph, export

ExportFormat = Literal["pth", "safetensors", "torch-export", "onnx", "openvino", "aot"]
FORMATS: dict[str, ExportFormat] = {
    ".pth": "pth",
    ".pt": "pth",
    ".safetensors": "safetensors",
    **{suffix: cast(ExportFormat, format) for format, suffix in reversed(SUFFIXES.items())},
}
"""Endings of files, and the format that each stands for where none is given."""


def export_network(
    checkpoint: str | Path,
    *,
    output: Path,
    format: ExportFormat | None = None,
    size: tuple[int, int] | None = None,
    precision: Precision = "float32",
    pad: bool = False,
    freeze_bias: bool = True,
) -> None:
    """Write a checkpoint's weights with a card of the model, or its network as a graph that other runtimes run.

    Weights: a plain state dict, without optimiser and adapters. Keys are upstream's, so that its own code and loaders
    such as spandrel's read them. Some scripts want the state dict of a .pth file under another name (`params` in
    Restormer's and SwinIR's) than `state_dict`. Windows and kernels, where they are not the released ones, stand beside
    it under `attention`; `nystra.load_pretrained` restores both, upstream's code does not know of them. The card
    (`lowrank info FILE`) tells the architecture, the recipe, the scores with their protocol, and the licence of the
    weights that training started from.

    Graphs: images in, images out, float32, in the network's value range, of any size that is a multiple of its windows
    and halvings. The file says these demands under the key `lowrank` of its metadata, which `lowrank restore` reads. It
    is run in its own runtime at two sizes and compared with the network before it gets its name.

    Args:
        checkpoint: of `lowrank fit`, or any that this package loads; as --pretrained elsewhere.
        output: file to write; replaced if it is there.
        format: pth (torch's own, with the card beside the state dict) or safetensors (with the card in the file's
            metadata); torch-export (.pt2), onnx, openvino (.xml, with a .bin) or aot (.pt2, compiled for this
            processor); null: as the output's ending says.
        size: the only height and width of a graph's images, as in '[512, 768]'; null: any.
        precision: of a graph: float32, float16 or bfloat16, as far as the runtime can.
        pad: whether the graph itself pads images of other sizes and crops its result.
        freeze_bias: whether position bias and masks are constants of the graph; false: it computes them of the
            checkpoint's parameters, for a smaller file where windows are large.

    Raises:
        CheckpointError: if the checkpoint cannot be read or is of no network of this package.
        ValueError: if the ending of `output` does not fit the format, or it is the checkpoint; if an option does not
            suit weights, or the graph cannot be written or differs from the network in its runtime.
    """
    chosen = _choose_format(output, format)
    source = locate(checkpoint, "checkpoint")
    if output.exists() and output.samefile(source):
        raise ValueError(f"output ({output}) must not be the checkpoint itself, whose other contents would be lost")
    options: dict[str, Any] = {"size": size, "precision": precision, "pad": pad, "freeze_bias": freeze_bias}
    console = Console(markup=False, highlight=False, emoji=False)
    if chosen in SUFFIXES:
        net = load_network(source, argument="checkpoint")
        console.print(_told(export(net, output, format=chosen, **options)), soft_wrap=True)
        return
    usual = {"size": None, "precision": "float32", "pad": False, "freeze_bias": True}
    for name, value in options.items():
        if value != usual[name]:
            raise ValueError(f"{name} ({value}) must be left out for weights ({chosen}): it is of a graph")
    net = load_network(source, argument="checkpoint")
    content = exported(net, source)
    with atomic_file(output) as file:
        if chosen == "safetensors":
            file.write(write_safetensors(content))
        else:
            torch.save(content, file)
    count = content[CARD]["parameters"]
    console.print(f"weights: {printable(str(output))}, {type(net).__name__}, {count} parameters", soft_wrap=True)


def exported(net: torch.nn.Module, source: Path) -> dict[str, Any]:
    """Gather what an exported checkpoint holds.

    Args:
        net: loaded from `source`.
        source: a checkpoint.

    Returns:
        The state dict, the attention record where there is one, and the card.
    """
    content: dict[str, Any] = {"state_dict": net.state_dict()}
    if record := attention_record.record(net):
        content[attention_record.KEY] = record
    return {**content, CARD: make_card(net, source)}


def _choose_format(output: Path, format: ExportFormat | None) -> ExportFormat:
    fitting = FORMATS.get(output.suffix)
    # Two formats have one ending.
    if fitting == "torch-export" and format == "aot":
        return format
    if fitting is None or format not in (None, fitting):
        wanted = "torch-export" if format == "aot" else format
        endings = [ending for ending, kind in FORMATS.items() if wanted in (None, kind)]
        raise ValueError(f"output ({output}) must end in {' or '.join(endings)}, by which its format is told")
    return fitting


def _told(graph: ExportedGraph) -> str:
    description = graph.description
    multiple, least = description.size_multiple, description.least
    sides = (
        f"any multiple of {multiple} from {least} on"
        if description.size is None
        else "×".join(str(side) for side in description.size)
    )
    sizes = " and ".join(f"{height}×{width}" for _, height, width in graph.sizes)
    low, high = description.value_range
    return (
        f"graph: {printable(str(graph.path))}, {description.family}, {graph.format}, {description.precision}; "
        f"height and width: {sides}; values: {low:g} to {high:g}; "
        f"differs from the network by at most {graph.difference:.1e} of the output's range at {sizes}"
    )
