"""Time of window attention alone, kernel by kernel, side by side in one run."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.attention import flex_attention as flex

import nystra
from glmha.shared import clock
from glmha.shared.checkpoint_files import read
from nystra.windows.partition import Cut
from nystra.windows.position_bias import PositionBias, TableBias
from trainers.devices.choice import choose_device, device_name
from trainers.figures.points import bench_points
from trainers.figures.quality import draw_quality
from trainers.reports.profiling import Call, add_ratio, check_counts, inference, profile, use_threads
from trainers.reports.tables import MILLISECONDS, NAME_COLUMN, Column, labelled, results_table, write_results

FUSED, EXPLICIT, EXACT, FLEX = "softmax, fused", "softmax, explicit", "Softmax()", "FlexAttention"
KERNELS: tuple[nystra.Kernel, ...] = (
    nystra.Nystrom.as_published(16, 2),
    nystra.Nystrom(),
    nystra.LandmarkPooling(16, 16, "own"),
    nystra.LandmarkPooling(16, 16, "cross"),
    nystra.LandmarkPooling(16, 64, "cross"),
    nystra.ContentPooling(),
    nystra.Nystromformer(),
)
COLUMNS = (
    NAME_COLUMN,
    MILLISECONDS,
    Column("× fused", "fused", ".2f"),
    Column("× explicit", "explicit", ".1f"),
    Column("error", "error", ".4f"),
    Column("MiB", "bytes", ".1f", 2**-20),
)


def run_bench_attention(
    *,
    window: int = 32,
    frames: int | None = None,
    windows: int = 4,
    heads: int | None = None,
    channels: int | None = None,
    bias: bool | None = None,
    queries: Path | None = None,
    kernels: Sequence[nystra.Kernel] | None = None,
    compiled: bool = False,
    memory: bool = False,
    repeats: int = 7,
    threads: int = 2,
    device: str = "cpu",
    output: Path | None = None,
    figure: Path | None = None,
) -> dict[str, dict[str, float]]:
    """Time kernels on queries, keys and values of windows, in float32, in turn after a warm-up.

    Args:
        window: side of the windows, in tokens.
        frames: that windows reach over, as those of films do; null: windows of images.
        windows: number of windows.
        heads: number of heads of random tensors; null: 6, or those of the queries.
        channels: of a head of random tensors; null: 30, or those of the queries.
        bias: whether there is a position bias (a random table); null: with random tensors.
        queries: safetensors file of maps (H, W, 3, heads, channels) of a network's queries, keys and values, whose
            windows are taken and on which errors are measured; null: random ones.
        kernels: to be timed beside exact attention, explicit, by torch's fused program and as the package makes it (a
            native program where there is one); null: the package's, with 16 landmarks.
        compiled: whether every kernel is also timed as `torch.compile` makes it, and exact attention as
            FlexAttention does with the table of the position bias, which needs a C++ compiler.
        memory: whether peak memory is measured, on a CPU in a process for each; tables of the position bias count.
        repeats: counted calls of each, of which the median counts.
        threads: of the processor.
        device: auto (CUDA, else MPS, else XPU, else CPU), cpu, cuda, cuda:1, …
        output: JSON file for the figures; null: only the table.
        figure: name of the files of a figure of error against time (PDF, PNG, CSV); null: none. Needs `queries`.

    Returns:
        Kernel → seconds, how many times faster than the fused and than the explicit softmax, bytes where measured, and
        the relative error of the outputs (L2, mean over the maps), of genuine queries.

    Raises:
        ValueError: if a number is below 1, a kernel does not fit the window, the file of queries has other tensors, or
            there is to be a figure without one.
    """
    for name, given in (("heads", heads), ("channels", channels)):
        if given is not None and queries is not None:
            raise ValueError(f"{name} ({given}) must be null with queries, which have theirs")
    if frames is not None and (queries is not None or compiled):
        raise ValueError(f"frames ({frames}) must be null with queries, which are of images, and with compiled")
    heads, channels = 6 if heads is None else heads, 30 if channels is None else channels
    numbers = {"window": window, "windows": windows, "heads": heads, "channels": channels, "repeats": repeats}
    check_counts(**numbers, **({} if frames is None else {"frames": frames}))
    if figure is not None and queries is None:
        raise ValueError(f"figure ({figure}) must be null without queries: errors are of a network's own tensors")
    chosen = KERNELS if kernels is None else kernels
    sides = (*(() if frames is None else (frames,)), window, window)
    tokens = math.prod(sides)
    for kernel in chosen:
        kernel.cost(sides, channels)
    use_threads(threads)
    computing = choose_device(device)
    torch.manual_seed(0)
    bias = queries is None if bias is None else bias
    genuine = [] if queries is None else read_windows(queries, window)
    if queries is None:
        query, key, value = (torch.randn(windows, heads, tokens, channels) for _ in range(3))
        query *= channels**-0.5
    else:
        query, key, value = spread_windows(genuine, windows)
        heads, channels = query.shape[1], query.shape[3]
    query, key, value = (tensor.to(computing) for tensor in (query, key, value))
    genuine = [tensors.to(computing) for tensors in genuine]
    offsets = math.prod(2 * side - 1 for side in sides)
    table = TableBias((0.5 * torch.randn(offsets, heads)).to(computing), sides) if bias else None
    geometry = nystra.WindowGeometry(sides, bias=table, tables={})
    ((_, kind),) = geometry.kinds(query.device)
    full = nystra.Softmax().tables(kind, query.dtype)
    timed_kernels = {FUSED: FusedSoftmax(), EXACT: nystra.Softmax(), **{str(kernel): kernel for kernel in chosen}}
    calls: dict[str, Callable[[], Tensor]] = {
        EXPLICIT: functools.partial(explicit_softmax, query, key, value, full),
        **{name: functools.partial(kernel, query, key, value, geometry) for name, kernel in timed_kernels.items()},
    }
    if compiled:
        for kernel in chosen:
            attend = torch.compile(kernel.attend, dynamic=False)
            tables = kernel.tables(kind, query.dtype)
            calls[f"{kernel}, compiled"] = functools.partial(attend, query, key, value, tables)
        calls[FLEX] = flex_exact(query, key, value, None if table is None else table.table, window)
    memory_calls: dict[str, Call] = {}
    if memory:
        stacked = torch.stack([query, key, value])
        for label, kernel in timed_kernels.items():
            memory_calls[label] = (inference, SingleSite(kernel, sides, table), stacked)
    with torch.inference_mode():
        results = profile([calls], repeats=repeats, memory=memory_calls, device=computing)
        for label, kernel in timed_kernels.items() if genuine else ():
            results[label]["error"] = mean_error(kernel, genuine, geometry)
    add_ratio(results, "fused", to=FUSED)
    add_ratio(results, "explicit", to=EXPLICIT)
    shape = f"{windows}×{heads}×{tokens}×{channels}{', position bias' if bias else ''}"
    Console(markup=False, emoji=False).print(
        results_table(f"{shape}, {threads} threads, medians, {clock.name(computing)}", labelled(results), COLUMNS)
    )
    if output is not None:
        settings = {
            **numbers,
            "frames": frames,
            "heads": heads,
            "channels": channels,
            "bias": bias,
            "device": device_name(computing),
        }
        write_results(output, settings, results)
    if figure is not None:
        draw(figure, results, shape)
    return results


def read_windows(path: Path, window: int) -> list[Tensor]:
    """Read maps (H, W, 3, heads, channels) and cut them into windows, (3, W, heads, N, channels), queries scaled.

    Raises:
        ValueError: if the file holds other tensors, or maps smaller than a window.
    """
    found = []
    for name, maps in read(path, "queries").items():
        if maps.dim() != 5 or maps.shape[2] != 3 or min(maps.shape[:2]) < window:
            raise ValueError(
                f"queries ({path}) must hold maps (H, W, 3, heads, channels) of at least {window}×{window} tokens, got "
                f"{tuple(maps.shape)} ({name})"
            )
        height, width = (side // window * window for side in maps.shape[:2])
        cut = Cut((height, width), (window, window))
        windows = cut.windows(maps[None, :height, :width].float()).permute(2, 0, 3, 1, 4).contiguous()
        windows[0] *= maps.shape[4] ** -0.5
        found.append(windows)
    return found


def spread_windows(genuine: Sequence[Tensor], count: int) -> Tensor:
    """Take windows evenly from all maps: (3, count, heads, N, channels).

    Raises:
        ValueError: if there are fewer.
    """
    every = torch.cat(list(genuine), 1)
    if every.shape[1] < count:
        raise ValueError(f"windows ({count}) must be at most the {every.shape[1]} that the file of queries has")
    return every[:, torch.linspace(0, every.shape[1] - 1, count).long()]


def mean_error(kernel: nystra.Kernel, genuine: Sequence[Tensor], geometry: nystra.WindowGeometry) -> float:
    """Relative L2 error of a kernel's outputs against exact attention in float64, mean over the maps."""
    errors = []
    for windows in genuine:
        query, key, value = windows.double().unbind(0)
        exact = nystra.Softmax()(query, key, value, nystra.WindowGeometry(geometry.window, bias=geometry.bias))
        given = kernel(windows[0], windows[1], windows[2], geometry).double()
        errors.append(((given - exact).norm() / exact.norm()).item())
    return sum(errors) / len(errors)


def draw(path: Path, results: Mapping[str, Mapping[str, float]], title: str) -> None:
    """Draw error against time, with the Pareto front, exact attention as lines."""
    draw_quality(bench_points(results), quality="error", title=title).save(path)


class FusedSoftmax(nystra.Softmax):
    """Exact attention by torch's fused program, also where this package has a native one."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: Tensor | None) -> Tensor:
        """Attend as `Softmax` does in plain torch; a class that attends in its own way has no native program."""
        return super().attend(query, key, value, tables)


class SingleSite(nn.Module):
    """One kernel at one site, to be sent to a fresh process.

    Args:
        kernel: of the site.
        window: sides of the windows.
        bias: of the site; None: none.
    """

    def __init__(self, kernel: nystra.Kernel, window: tuple[int, ...], bias: PositionBias | None) -> None:
        super().__init__()
        self.kernel = kernel
        self.window = window
        self.bias = bias

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend within windows of queries, keys and values (3, W, h, N, d)."""
        return self.kernel(tokens[0], tokens[1], tokens[2], nystra.WindowGeometry(self.window, bias=self.bias))


def explicit_softmax(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """Attention as window models are published: N×N weights are written."""
    logits = query @ key.transpose(2, 3)
    return (logits if bias is None else logits + bias).softmax(3) @ value


def flex_exact(query: Tensor, key: Tensor, value: Tensor, table: Tensor | None, window: int) -> Callable[[], Tensor]:
    """Exact attention as torch compiles it for a position bias that is read from its table, without an N×N mask.

    Args:
        query: (W, h, N, d), the scale folded in.
        key: as the queries.
        value: as the queries.
        table: ((2 window - 1)², h), as in `TableBias`; None: no bias.
        window: side, in tokens.
    """

    def add_bias(score: Tensor, _: Tensor, head: Tensor, of: Tensor, to: Tensor) -> Tensor:
        assert table is not None
        rows = of // window - to // window + window - 1
        columns = of % window - to % window + window - 1
        return score + table[rows * (2 * window - 1) + columns, head]

    attend = torch.compile(flex.flex_attention, dynamic=False)
    return functools.partial(attend, query, key, value, score_mod=None if table is None else add_bias, scale=1.0)
