"""Time and memory of one network in several runtimes, dense and low-rank, side by side in one run."""

import copy
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

import glmha
import nystra
from trainers.commands.bench.networks import build, load_baseline
from trainers.commands.bench.windows import NETWORKS
from trainers.reports.profiling import Call, add_ratio, check_counts, inference, profile, timed, use_threads
from trainers.reports.tables import MEMORY, NAME_COLUMN, SECONDS, Column, labelled, results_table, write_results
from trainers.runtimes.description import Description, GraphFormat
from trainers.runtimes.export import WRITERS
from trainers.runtimes.graph import ImageGraph
from trainers.runtimes.running import read_graph, require_libraries

RESTORMER = "restormer"
DENSE, LOW_RANK, BASELINE, EAGER, COMPILED = "dense", "low-rank", "baseline", "eager", "compiled"
RUNTIMES: dict[str, GraphFormat] = {"ONNX Runtime": "onnx", "OpenVINO": "openvino"}
COLUMNS = (
    NAME_COLUMN,
    SECONDS,
    Column("× first", "ratio", ".2f"),
    Column("difference", "difference", ".1e"),
    MEMORY,
)


class GraphFile(nn.Module):
    """A written graph that is loaded by each call: for a process of its own.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def forward(self, image: Tensor) -> Tensor:
        """Load the graph and restore an image."""
        return read_graph(self.path)(image)


def run_bench_runtimes(
    *,
    network: str = RESTORMER,
    size: int = 128,
    repeats: int = 5,
    threads: int = 2,
    baseline: str | None = None,
    compiled: bool = False,
    memory: bool = False,
    output: Path | None = None,
) -> dict[str, dict[str, float]]:
    """Time a network of a released size in PyTorch, ONNX Runtime and OpenVINO, with dense and low-rank attention.

    Everything runs on the CPU in float32, on the same image, in turn after a warm-up; the figures are medians. Graphs
    are written for this size, as `lowrank export --size` writes them.

    Args:
        network: restormer (dense: CSA, low-rank: GLMHA at half the channels), or one of lowrank bench windows (dense:
            exact softmax, low-rank: LandmarkPooling, in the released windows).
        size: height and width of the image; batch 1.
        repeats: counted calls of each, >= 1.
        threads: of the processor, in every runtime.
        baseline: import path of a class with the dense network's constructor arguments and state-dict keys, found from
            the working directory, as in tests.reference.restormer.Restormer; it gets the dense network's weights and is
            timed in every runtime too, and ratios are against it in PyTorch. null: they are against the dense network.
        compiled: whether the networks are also timed under torch.compile, which needs a C++ compiler and minutes.
        memory: whether peak memory is measured, in a process for each; that of graphs includes their weights.
        output: JSON file for the figures; null: only the table.

    Returns:
        "network, runtime" → seconds, how many times faster than the first, largest difference from the network in
        PyTorch as a part of the output's range, bytes where measured.

    Raises:
        ValueError: if there is no such network, a number is out of range, the network does not take the size, a library
            is missing or the baseline cannot be imported or loaded.
    """
    check_counts(size=size, repeats=repeats)
    require_libraries("onnx", "onnxruntime", "openvino")
    use_threads(threads)
    torch.manual_seed(0)
    nets = _networks(network)
    description = Description.of(nets[DENSE], format="onnx", size=(size, size), precision="float32", pad=False)
    if size % description.size_multiple:
        raise ValueError(f"size ({size}) must be a multiple of {description.size_multiple} for network ({network})")
    if baseline is not None:
        arguments = {} if network == RESTORMER else dict(NETWORKS[network].keywords)
        nets = {BASELINE: load_baseline(baseline, nets[DENSE], **arguments).eval().requires_grad_(False), **nets}
    low, high = description.value_range
    image = torch.rand(1, description.channels, size, size) * (high - low) + low
    calls: dict[str, Callable[[], object]] = {}
    measured: dict[str, Call] = {}
    differences: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, net in nets.items():
            label = f"{name}, {EAGER}"
            measured[label] = (inference, net, image)
            calls |= timed({label: measured[label]})
            expected = inference(net, image)
            if compiled:
                calls[f"{name}, {COMPILED}"] = functools.partial(_infer, torch.compile(net), image)
            graph = ImageGraph(net, description, format="onnx", freeze=True)
            for runtime, format in RUNTIMES.items():
                path = Path(folder) / f"{name}{'.onnx' if format == 'onnx' else '.xml'}"
                WRITERS[format](graph, description, path)
                label, run = f"{name}, {runtime}", read_graph(path)
                measured[label] = (inference, GraphFile(path), image)
                calls[label] = functools.partial(run, image)
                span = expected.max() - expected.min()
                differences[label] = float((run(image) - expected).abs().max() / span)
        results = profile([calls], repeats=repeats, memory=measured if memory else None)
    add_ratio(results, "ratio", to=next(iter(calls)))
    for label, difference in differences.items():
        results[label]["difference"] = difference
    title = f"{network}, 1×{description.channels}×{size}×{size}, {threads} threads, medians of {repeats}"
    Console(markup=False, emoji=False).print(results_table(title, labelled(results), COLUMNS))
    if output is not None:
        write_results(output, {"network": network, "size": size, "repeats": repeats, "baseline": baseline}, results)
    return results


@torch.inference_mode()
def _infer(net: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    return net(image)


def _networks(network: str) -> dict[str, nn.Module]:
    """The network with dense and with low-rank attention, in eval mode, without gradients.

    Raises:
        ValueError: if there is none of this name.
    """
    if network == RESTORMER:
        nets = {DENSE: build(network, glmha.ChannelAttention), LOW_RANK: build(network, glmha.GLMHA)}
        return {name: net.eval().requires_grad_(False) for name, net in nets.items()}
    if network not in NETWORKS:
        raise ValueError(f"network ({network}) must be one of {', '.join([RESTORMER, *NETWORKS])}")
    dense = NETWORKS[network].func(**NETWORKS[network].keywords).eval().requires_grad_(False)
    low_rank = copy.deepcopy(dense)
    nystra.substitute(low_rank, nystra.LandmarkPooling())
    return {DENSE: dense, LOW_RANK: low_rank}
