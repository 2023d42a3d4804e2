"""Time and memory of whole networks, side by side in one run."""

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

import glmha
from glmha.complexity import count
from glmha.shared import clock
from trainers.commands.bench.compilation import compiled_blocks
from trainers.devices.choice import choose_device, device_name
from trainers.metrics.psnr_ssim import psnr
from trainers.names import import_class
from trainers.reports.profiling import (
    Call,
    add_ratio,
    check_counts,
    inference,
    profile,
    timed,
    training_step,
    use_threads,
)
from trainers.reports.tables import MEMORY, NAME_COLUMN, SECONDS, Column, labelled, results_table, write_results

# Released sizes.
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "restormer": glmha.Restormer,
    "mst-l": functools.partial(glmha.RGBMST, dim=31, stage=2, num_blocks=(4, 7, 5)),
    "mst-plus-plus": glmha.MSTPlusPlus,
}
COLUMNS = (NAME_COLUMN, SECONDS, Column("times faster", "ratio", ".2f"), MEMORY)


def run_bench(
    *,
    network: str = "restormer",
    size: int = 256,
    repeats: int = 3,
    threads: int = 2,
    baseline: str | None = None,
    training: bool = True,
    compiled: bool = False,
    memory: bool = True,
    device: str = "cpu",
    output: Path | None = None,
) -> dict[str, dict[str, float]]:
    """Time a network with full channel attention and with GLMHA, in float32 and bfloat16, against a baseline.

    Everything runs in one process, on the same input, in turn, after a warm-up; the figures are medians.

    Args:
        network: a released size: restormer, mst-l or mst-plus-plus.
        size: height and width of the input, a multiple of 8; batch 1.
        repeats: counted calls of each, >= 1.
        threads: of the processor.
        baseline: import path of a class with the network's constructor and state-dict keys, found from the working
            directory, as in tests.reference.restormer.Restormer; it gets the full-attention network's weights, and
            ratios are against it. null: ratios are against full attention.
        training: whether training steps (forward, L1, backward) are timed too.
        compiled: whether every network is also timed with `torch.compile` of its blocks, which needs a C++ compiler.
        memory: whether peak memory is measured, on a CPU each call once in a fresh process.
        device: auto (CUDA, else MPS, else XPU, else CPU), cpu, cuda, cuda:1, …
        output: JSON file for the figures; null: only the table.

    Returns:
        "network, precision, what" → figures: seconds, ratio, bytes of memory where measured.

    Raises:
        ValueError: if an argument is out of range or the baseline cannot be imported or loaded.
    """
    if size < 8 or size % 8:
        raise ValueError(f"size ({size}) must be a positive multiple of 8")
    if network not in NETWORKS:
        raise ValueError(f"network ({network}) must be one of {', '.join(NETWORKS)}")
    check_counts(repeats=repeats)
    use_threads(threads)
    chosen = choose_device(device)
    torch.manual_seed(0)
    nets = {"CSA": build(network, glmha.ChannelAttention), "GLMHA 50 %": build(network, glmha.GLMHA)}
    if baseline is not None:
        # MSTs have arguments of their size.
        arguments = getattr(NETWORKS[network], "keywords", {})
        nets = {"baseline": load_baseline(baseline, nets["CSA"], **arguments), **nets}
    nets = {name: net.to(chosen) for name, net in nets.items()}
    image = torch.rand(1, 3, size, size).to(chosen)
    console = Console(markup=False, emoji=False)
    console.print(f"1×3×{size}×{size}, {threads} threads, {repeats} repeats, {device_name(chosen)}")
    if baseline is not None:
        difference = (inference(nets["baseline"], image) - inference(nets["CSA"], image)).abs().max()
        console.print(f"CSA and the baseline differ by at most {difference:.1e} on the same weights")
    calls: dict[str, Call] = {f"{name}, float32, forward": (inference, net, image) for name, net in nets.items()}
    for name in ("CSA", "GLMHA 50 %"):
        half = copy.deepcopy(nets[name]).eval().bfloat16()
        calls[f"{name}, bfloat16, forward"] = (inference, half, image.bfloat16())
        # All bands as one grey image, since spectra have more than three.
        exact, rounded = (
            inference(variant, x).float().clamp(0, 1).flatten(1, 2).unsqueeze(1)
            for variant, x in ((nets[name], image), (half, image.bfloat16()))
        )
        agreement = psnr(rounded, exact, space="rgb", border=0, quantise=False).item()
        console.print(f"{name}: bfloat16 agrees with float32 to {agreement:.1f} dB PSNR (random weights)")
    groups = [calls]
    if training:
        groups.append({f"{name}, float32, training step": (training_step, net, image) for name, net in nets.items()})
    if compiled:
        groups = [
            group | {f"{label}, compiled": (call, compiled_blocks(net), x) for label, (call, net, x) in group.items()}
            for group in groups
        ]
    every = {label: call for group in groups for label, call in group.items()}
    results = profile(
        [timed(group) for group in groups], repeats=repeats, memory=every if memory else None, device=chosen
    )
    for group in groups:
        add_ratio({label: results[label] for label in group}, "ratio", to=next(iter(group)))
    title = f"{network}, medians, {clock.name(chosen)}; how many times faster than the first row of the kind"
    console.print(results_table(title, labelled(results), COLUMNS))
    for name, net in nets.items():
        cost = count(net, tuple(image.shape))
        console.print(f"{name}: {cost.parameters / 1e6:.2f} M parameters, {cost.macs / 1e9:.1f} GMAC")
    if output is not None:
        settings = {"network": network, "size": size, "repeats": repeats, "baseline": baseline}
        write_results(output, {**settings, "device": device_name(chosen)}, results)
    return results


def build(network: str, attention: glmha.AttentionFactory) -> nn.Module:
    """The network that is measured, by its name in `NETWORKS`, with random weights."""
    return NETWORKS[network](attention=attention)


def load_baseline(path: str, exact: nn.Module, **arguments: Any) -> nn.Module:
    """Import a class and give it the weights of a network.

    Args:
        path: import path of the class; what a recipe may not name is not imported.
        exact: the network.
        **arguments: of the class' constructor.

    Raises:
        ValueError: if there is no such class, it is no `nn.Module`, or the weights do not fit.
    """
    try:
        net = import_class(path, nn.Module)(**arguments)
        net.load_state_dict(exact.state_dict())
    except (ImportError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        like = type(exact).__name__
        raise ValueError(f"baseline ({path}) must be the import path of a class like {like}: {error}") from None
    return net
