"""Writing of networks for other runtimes: the file is run there before it appears under its name."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import torch
from torch import nn

from datamodules.files.atomic import atomic_file
from glmha.shared.image_network import image_rules
from trainers.networks import load_network
from trainers.runtimes.description import KEY, Description, GraphFormat, Precision
from trainers.runtimes.graph import (
    ImageGraph,
    checked_sizes,
    record_onnx,
    record_program,
    refuse_many_sizes,
    restore_padded,
    sample,
)
from trainers.runtimes.running import EXTRA_FILE, read_graph, require_libraries

SUFFIXES: dict[GraphFormat, str] = {"torch-export": ".pt2", "onnx": ".onnx", "openvino": ".xml", "aot": ".pt2"}
"""Of the files of each format."""

TOLERANCES: dict[Precision, float] = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}
"""Largest difference from the network in float32, as a part of its output's range, by the graph's precision."""


@dataclasses.dataclass(frozen=True)
class ExportedGraph:
    """A written graph.

    Attributes:
        path: of the file.
        format: of the file.
        description: as it stands in the file.
        sizes: number, height and width of the images at which it was compared with the network.
        difference: largest difference found, as a part of the output's range.

    Examples:
        >>> import glmha, trainers
        >>> net = glmha.Restormer(dim=4, num_blocks=[1] * 4, num_refinement_blocks=1, heads=[1] * 4)
        >>> graph = trainers.export(net, "net.onnx")
        >>> graph.format, graph.description.size_multiple, graph.difference < 1e-5
        ('onnx', 8, True)
    """

    path: Path
    format: GraphFormat
    description: Description
    sizes: list[tuple[int, int, int]]
    difference: float


def export(
    net: nn.Module | Path | str,
    output: Path | str,
    *,
    format: GraphFormat | None = None,
    size: tuple[int, int] | None = None,
    precision: Precision = "float32",
    pad: bool = False,
    freeze_bias: bool = True,
) -> ExportedGraph:
    """Write a network as a graph for another runtime, and compare it there with the network.

    The graph takes images (B, C, H, W), float32, in the network's value range, in any number, whose sides are multiples
    of its windows and halvings (`Description`). It has no operators of this package. After it is written it is run in
    its own runtime, at two sizes that were not recorded. A graph that differs from the network leaves no file.

    Args:
        net: a host of this package, left as it is, or the path of its checkpoint.
        output: file to write: .onnx, .xml (with a .bin beside it) or .pt2; replaced if it is there.
        format: torch-export, onnx, openvino or aot (compiled for this processor, by a C++ compiler); None: by `output`.
        size: the only height and width of the images; None: any.
        precision: in which it computes; as far as the runtime can. OpenVINO keeps weights in float16, and computes in
            bfloat16 where `lowrank restore` runs it.
        pad: whether the graph itself pads images of other sizes, by reflection, and crops its result; of torch-export
            and aot with `size` alone.
        freeze_bias: whether tables of position bias and masks are constants of the graph; else it computes them of the
            checkpoint's parameters, and the file is smaller where windows are large.

    Returns:
        What was written, and how far it differs.

    Raises:
        CheckpointError: if `net` is a path and holds no network of this package.
        ValueError: if format and `output` disagree, a size is not taken, a library is missing, the runtime cannot run
            the graph, or its results differ.

    Examples:
        >>> import glmha, trainers
        >>> net = glmha.Restormer(dim=4, num_blocks=[1] * 4, num_refinement_blocks=1, heads=[1] * 4)
        >>> trainers.export(net, "net.onnx", size=(32, 48)).description.size
        (32, 48)
    """
    output = Path(output)
    chosen = _chosen_format(format, output)
    require_libraries(*{"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}.get(chosen, ()))
    host = net if isinstance(net, nn.Module) else load_network(Path(net), argument="net")
    description = Description.of(host, format=chosen, size=size, precision=precision, pad=pad)
    rules = image_rules(host)
    if size is None:
        refuse_many_sizes(host, chosen, pad=pad)
    elif any(side < 1 or not (pad or rules.fits(side)) for side in size):
        raise ValueError(
            f"size ({size[0]}×{size[1]}) must be of multiples of {rules.size_multiple} that the network takes; "
            "or add padding (pad)"
        )
    # OpenVINO converts precisions by itself.
    inside: Precision = "float32" if chosen == "openvino" else precision
    graph = ImageGraph(host, dataclasses.replace(description, precision=inside), format=chosen, freeze=freeze_bias)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=output.parent) as folder:
        written = Path(folder) / output.name
        try:
            WRITERS[chosen](graph, description, written)
            difference = _difference(host, description, chosen, _loader(chosen)(written))
        except (ImportError, OSError, MemoryError, ValueError):
            raise
        except Exception as error:
            remedy = "" if precision == "float32" else " (choose precision float32, which all formats hold)"
            raise ValueError(
                f"format ({chosen}) must be able to hold {type(host).__name__} in {precision}, got from its runtime: "
                f"{str(error).strip().splitlines()[0][:300]}{remedy}"
            ) from error
        if not difference <= TOLERANCES[precision]:
            raise ValueError(
                f"output ({output}) was not written: in its runtime the graph differs from the network by "
                f"{difference:.1e} of the output's range, more than {TOLERANCES[precision]:.0e}"
            )
        # Weights first: a file that is there is complete.
        for part in sorted(Path(folder).iterdir(), key=lambda part: part.name == output.name):
            with part.open("rb") as source, atomic_file(output.parent / part.name) as file:
                shutil.copyfileobj(source, file)
    return ExportedGraph(output, chosen, description, checked_sizes(description), difference)


def _chosen_format(format: GraphFormat | None, output: Path) -> GraphFormat:
    if format is None:
        found = [name for name, suffix in SUFFIXES.items() if suffix == output.suffix]
        if not found:
            raise ValueError(f"output ({output}) must end in one of {', '.join(dict.fromkeys(SUFFIXES.values()))}")
        return found[0]
    if format not in get_args(GraphFormat):
        raise ValueError(f"format ({format}) must be one of {', '.join(SUFFIXES)}")
    if output.suffix != SUFFIXES[format]:
        raise ValueError(f"output ({output}) must end in {SUFFIXES[format]} for format ({format})")
    return format


def _difference(
    net: nn.Module,
    description: Description,
    format: GraphFormat,
    run: Callable[[torch.Tensor], torch.Tensor],
) -> float:
    """Largest difference between a graph and a network, as a part of the range of the network's outputs."""
    differences = []
    training = net.training
    net.eval()
    parameter = next(net.parameters())
    for seed, (count, *size) in enumerate(checked_sizes(description), 1):
        image = sample(description, (size[0], size[1]), count, seed)
        with torch.no_grad():
            # Of a padding graph the network in the graph's own frame is the reference: it takes no other sizes.
            expected = restore_padded(net, description, format, image.to(parameter)).float().cpu()
        found = run(image)
        if found.shape != expected.shape:
            raise ValueError(f"the graph gives images of shape {tuple(found.shape)}, not {tuple(expected.shape)}")
        differences.append(float((found - expected).abs().max() / (expected.max() - expected.min())))
    net.train(training)
    # NaN is larger than anything.
    return max(differences, key=lambda value: float("inf") if value != value else value)


def _write_program(graph: ImageGraph, description: Description, path: Path) -> None:
    torch.export.save(record_program(graph, description), path, extra_files={EXTRA_FILE: description.encoded()})


def _write_compiled(graph: ImageGraph, description: Description, path: Path) -> None:
    torch._inductor.aoti_compile_and_package(
        record_program(graph, description),
        package_path=str(path),
        inductor_configs={"aot_inductor.metadata": {KEY: description.encoded()}},
    )


def _write_onnx(graph: ImageGraph, description: Description, path: Path) -> None:
    import onnx

    record_onnx(graph, description, path)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {KEY: description.encoded()})
    model.producer_name = "lowrank-attention"
    onnx.save(model, path)


def _write_openvino(graph: ImageGraph, description: Description, path: Path) -> None:
    import openvino

    onnx_file = path.with_name(f"{path.name}.onnx")
    record_onnx(graph, description, onnx_file)
    model = openvino.convert_model(onnx_file)
    onnx_file.unlink()
    model.set_rt_info(description.encoded(), KEY)
    openvino.save_model(model, path, compress_to_fp16=description.precision == "float16")


WRITERS: dict[GraphFormat, Callable[[ImageGraph, Description, Path], None]] = {
    "torch-export": _write_program,
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "aot": _write_compiled,
}


def _loader(format: GraphFormat) -> Callable[[Path], Callable[[torch.Tensor], torch.Tensor]]:
    if format == "aot":
        return lambda path: torch._inductor.aoti_load_package(str(path))
    return read_graph
