"""Time and memory of whole window-attention networks, kernel by kernel, side by side in one run."""

import copy
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

import nystra
from glmha.shared import clock
from nystra.hosts.dehazeformer.network import DehazeFormer
from nystra.hosts.rvrt.network import RVRT
from nystra.hosts.swinir.network import SwinIR
from nystra.hosts.uformer.network import Uformer
from nystra.kernels.base import Cost
from nystra.sites.host import WindowHost
from nystra.sites.site import BiasMode
from nystra.sites.substitution import find_sites
from nystra.windows.geometry import WindowKind
from nystra.windows.partition import Cut
from trainers.commands.bench.attention import FusedSoftmax, explicit_softmax
from trainers.commands.bench.compilation import compiled_blocks
from trainers.commands.bench.networks import load_baseline
from trainers.devices.choice import choose_device, device_name
from trainers.networks import input_channels, make_network
from trainers.reports.profiling import Call, add_ratio, check_counts, inference, profile, timed, use_threads
from trainers.reports.tables import MEMORY, NAME_COLUMN, SECONDS, Column, labelled, results_table, write_results

# Released sizes. Times do not depend on the weights.
NETWORKS: dict[str, functools.partial[Any]] = {
    "swinir-light-x2": functools.partial(
        SwinIR, embed_dim=60, window_size=8, mlp_ratio=2, upscale=2, upsampler="pixelshuffledirect"
    ),
    "swinir-m-x2": functools.partial(
        SwinIR,
        embed_dim=180,
        depths=(6,) * 6,
        num_heads=(6,) * 6,
        window_size=8,
        mlp_ratio=2,
        upscale=2,
        upsampler="pixelshuffle",
    ),
    "uformer-t": functools.partial(Uformer, embed_dim=16, modulator=True),
    "uformer-b": functools.partial(Uformer, depths=(1, 2, 8, 8, 2, 8, 8, 2, 1), modulator=True),
    "dehazeformer-t": functools.partial(
        DehazeFormer,
        depths=(4, 4, 4, 2, 2),
        attn_ratio=(0, 0.5, 1, 0, 0),
    ),
    "dehazeformer-b": functools.partial(DehazeFormer),
}
# Of clips. The arguments of 001, super-resolution of REDS, are the class's own.
CLIP_NETWORKS: dict[str, functools.partial[Any]] = {"rvrt-x4": functools.partial(RVRT)}
FRAMES = 4
KERNELS: tuple[nystra.Kernel, ...] = (
    nystra.Nystrom.as_published(16, 2),
    nystra.Nystrom(),
    nystra.LandmarkPooling(16, 16, "own"),
    nystra.LandmarkPooling(16, 64, "cross"),
    nystra.ContentPooling(),
)


@dataclasses.dataclass(frozen=True)
class ExplicitSoftmax(nystra.Softmax):
    """Exact attention as window models are published: N×N logits and weights are written."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: Tensor | None) -> Tensor:
        """Attend with all weights in memory at once."""
        return explicit_softmax(query, key, value, tables)


@dataclasses.dataclass(frozen=True)
class Absent(nystra.Kernel):
    """The values themselves: what is left of a network without the attention product."""

    def cost(self, window: tuple[int, ...], channels: int) -> Cost:
        """Return no operations, because nothing is computed."""
        return Cost(0, 0)

    def tables(self, kind: WindowKind, dtype: torch.dtype) -> None:
        """Make no tables."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: Any) -> Tensor:
        """Return the values as they are."""
        return value

    def reads_maps(self, features: Tensor) -> bool:
        """Windows need not be cut, which exact attention needs neither."""
        return True

    def over_maps(self, query: Tensor, key: Tensor, value: Tensor, geometry: nystra.WindowGeometry, cut: Cut) -> Tensor:
        """Return the values as they are."""
        return value


# Side of the windows where none is given.
WINDOW = 32
BASELINE, EXPLICIT, FUSED, ABSENT = "baseline", "explicit softmax", "fused softmax", "attention taken out"
COLUMNS = (
    NAME_COLUMN,
    SECONDS,
    Column("× baseline", "baseline", ".2f"),
    Column("× explicit", "explicit", ".2f"),
    Column("× fused", "fused", ".2f"),
    MEMORY,
)


def run_bench_windows(
    *,
    network: str = "swinir-m-x2",
    window: int | None = None,
    position_bias: BiasMode | None = None,
    height: int = 96,
    width: int = 96,
    frames: int | None = None,
    kernels: Sequence[nystra.Kernel] | None = None,
    baseline: str | None = None,
    half: bool = True,
    compiled: bool = False,
    memory: bool = False,
    repeats: int = 3,
    threads: int = 2,
    device: str = "cpu",
    output: Path | None = None,
) -> dict[str, dict[str, float]]:
    """Time a whole window-attention network under every kernel, on one input, in turn after a warm-up.

    Beside the kernels stand explicit softmax (N×N weights written, as the models are published), torch's fused one, the
    package's own (a native program where there is one), and the network with the attention product taken out: what no
    attention can be faster than.

    Args:
        network: a released size: swinir-light-x2, swinir-m-x2, uformer-t, uformer-b, dehazeformer-t, dehazeformer-b
            or rvrt-x4, which takes clips; or what makes a network of another library, as package.module:name, which is
            timed as it is as well.
        window: side of the windows, in tokens; null: 32, or those of another library's network.
        position_bias: what becomes of the position bias in them: keep, interpolate or drop (with the shift masks);
            null: keep.
        height: of the image, in pixels; the network's own padding counts.
        width: of the image.
        frames: of the clip that a network of clips is timed on; null: 4.
        kernels: to be timed; null: the authors' arithmetic, Nystrom, LandmarkPooling and ContentPooling.
        baseline: import path of a class with the network's constructor arguments and state-dict keys, found from the
            working directory, as in tests.reference.swinir.SwinIR; it gets the network's weights and is timed too.
            Both are then made with these windows, as if they had been trained in them.
        half: whether all of them are also timed in bfloat16, with channels-last weights except the baseline's; networks
            of clips are not.
        compiled: whether all but explicit softmax are also timed with `torch.compile` of their blocks, which needs a
            C++ compiler.
        memory: whether peak memory is measured, on a CPU in a process for each.
        repeats: counted calls of each, of which the median counts.
        threads: of the processor.
        device: auto (CUDA, else MPS, else XPU, else CPU), cpu, cuda, cuda:1, …
        output: JSON file for the figures; null: only the table.

    Returns:
        "kernel, precision" → seconds, times faster than the baseline, explicit and fused softmax in float32, bytes
        where measured.

    Raises:
        ValueError: if there is no such network, a number is below 1, a kernel does not fit the windows, or the baseline
            cannot be imported or loaded, or is to do without its bias.
    """
    numbers = {"height": height, "width": width, "repeats": repeats, "threads": threads}
    given = {"window": window, "frames": frames}
    check_counts(**numbers, **{name: value for name, value in given.items() if value is not None})
    if frames is not None and network not in CLIP_NETWORKS:
        raise ValueError(f"frames ({frames}) must be null with network ({network}), which takes images")
    use_threads(threads)
    chosen = choose_device(device)
    torch.manual_seed(0)
    exact = _exact_network(network, window, position_bias, baseline).to(chosen)
    clip = () if network not in CLIP_NETWORKS else (FRAMES if frames is None else frames,)
    half = half and not clip
    channels = exact.image_channels if isinstance(exact, RVRT) else input_channels(exact)
    image = torch.rand(1, *clip, channels, height, width).to(chosen)
    console = Console(markup=False, emoji=False)
    nets: dict[str, tuple[nn.Module, Tensor]] = {}
    if baseline is not None:
        published = published_structure(baseline, exact, trained_in(_released(network), window or WINDOW)).to(chosen)
        nets[f"{BASELINE}, float32"] = (published, image)
        if half:
            nets[f"{BASELINE}, bfloat16"] = (copy.deepcopy(published).bfloat16(), image.bfloat16())
        difference = (inference(published, image) - inference(exact, image)).abs().max()
        console.print(f"the network and the baseline differ by at most {difference:.1e} on the same weights")
    elif not isinstance(exact, WindowHost):
        host = copy.deepcopy(exact)
        nystra.release(host)
        nets[f"{BASELINE}, float32"] = (host, image)
        if half:
            nets[f"{BASELINE}, bfloat16"] = (copy.deepcopy(host).bfloat16(), image.bfloat16())
    nets |= _variants(exact, image, KERNELS if kernels is None else kernels, half=half)
    calls: dict[str, Call] = {label: (inference, variant, x) for label, (variant, x) in nets.items()}
    every = dict(calls)
    if compiled:
        for label, (variant, x) in nets.items():
            if not label.startswith(EXPLICIT):
                every[f"{label}, compiled"] = (inference, compiled_blocks(variant), x)
    results = profile([timed(every)], repeats=repeats, memory=calls if memory else None, device=chosen)
    if f"{BASELINE}, float32" in results:
        add_ratio(results, "baseline", to=f"{BASELINE}, float32")
    add_ratio(results, "explicit", to=f"{EXPLICIT}, float32")
    add_ratio(results, "fused", to=f"{FUSED}, float32")
    share = 1 - 1 / results[f"{ABSENT}, float32"]["explicit"]
    bias = {"interpolate": "interpolated position bias", "drop": "no position bias"}.get(position_bias or "")
    sides = sorted({"×".join(map(str, site.window_size)) for site in find_sites(exact).values()})
    windows = f"window {', '.join(sides)}, {bias or 'position bias'}"
    size = "×".join(map(str, (*clip, height, width)))
    title = f"{network}, {windows}, {size} pixels, {threads} threads, medians, {clock.name(chosen)}"
    console.print(results_table(title, labelled(results), COLUMNS))
    console.print(
        f"attention is {share:.0%} of the explicit original's time: without it the network is {1 / (1 - share):.1f} "
        "times faster, which only a kernel that absorbs the linear maps around it can surpass"
    )
    if output is not None:
        settings = {
            **numbers,
            "network": network,
            "frames": clip[0] if clip else None,
            "window": sides,
            "position_bias": position_bias,
            "baseline": baseline,
            "attention_share": share,
            "device": device_name(chosen),
        }
        write_results(output, settings, results)
    return results


def _variants(
    exact: nn.Module, image: Tensor, kernels: Sequence[nystra.Kernel], *, half: bool
) -> dict[str, tuple[nn.Module, Tensor]]:
    """Each network and its input by "kernel, precision": under exact attention, the kernels, and none."""
    nets: dict[str, tuple[nn.Module, Tensor]] = {}
    for kernel in (ExplicitSoftmax(), FusedSoftmax(), nystra.Softmax(), *kernels, Absent()):
        net = copy.deepcopy(exact)
        nystra.substitute(net, kernel)
        label = {ExplicitSoftmax: EXPLICIT, FusedSoftmax: FUSED, Absent: ABSENT}.get(type(kernel), str(kernel))
        nets[f"{label}, float32"] = (net, image)
        if half:
            low = copy.deepcopy(net).bfloat16()
            low.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's annotations
            nets[f"{label}, bfloat16"] = (low, image.bfloat16().to(memory_format=torch.channels_last))
    return nets


def _exact_network(network: str, window: int | None, position_bias: BiasMode | None, baseline: str | None) -> nn.Module:
    """The network with exact attention, in eval mode, without gradients.

    Raises:
        ValueError: if there is none of this name, or options do not fit it.
    """
    if ":" not in network:
        make = _released(network)
        if baseline is not None and position_bias == "drop":
            raise ValueError(f"position_bias (drop) must be keep with a baseline ({baseline}), which has its bias")
        side = window or WINDOW
        arguments = dict(make.keywords) if baseline is None else trained_in(make, side)
        exact: WindowHost = make.func(**arguments).eval().requires_grad_(False)
        exact.set_window(side, position_bias or "keep")
        return exact
    for name, value in (("window", window), ("position_bias", position_bias), ("baseline", baseline)):
        if value is not None:
            raise ValueError(f"{name} ({value}) must be null with network ({network}), which is timed as it is")
    own = make_network(network)
    find_sites(own)
    return own.requires_grad_(False)


def _released(network: str) -> functools.partial[Any]:
    """What makes a network of a released size.

    Raises:
        ValueError: if there is none of this name.
    """
    known = NETWORKS | CLIP_NETWORKS
    if network not in known:
        raise ValueError(f"network ({network}) must be package.module:name, or one of {', '.join(known)}")
    return known[network]


def trained_in(network: functools.partial[Any], window: int) -> dict[str, Any]:
    """Constructor arguments of a network whose own windows are of a size."""
    arguments = dict(network.keywords)
    if issubclass(network.func, Uformer):  # type: ignore[arg-type]  # a class
        return {**arguments, "win_size": window}
    if issubclass(network.func, RVRT):  # type: ignore[arg-type]  # a class
        return {**arguments, "window_size": [2, window, window]}
    if issubclass(network.func, SwinIR):  # type: ignore[arg-type]  # a class
        # Windows are shifted in maps that are larger than one.
        arguments["img_size"] = max(64, 2 * window)
    return {**arguments, "window_size": window}


def published_structure(path: str, exact: nn.Module, arguments: dict[str, Any]) -> nn.Module:
    """Import a class, build it with a network's arguments and give it the network's weights.

    Raises:
        ValueError: if it cannot be imported or loaded.
    """
    return load_baseline(path, exact, **arguments).eval().requires_grad_(False)
