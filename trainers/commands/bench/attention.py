"""Time of window attention alone, kernel by kernel, side by side in one run."""

import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

import nystra
from nystra.windows.position_bias import PositionBias, TableBias
from trainers.reports.profiling import Call, add_ratio, check_counts, inference, profile
from trainers.reports.tables import MILLISECONDS, NAME, Column, labelled, results_table, write_results

FUSED, EXPLICIT, EXACT = "softmax, fused", "softmax, explicit", "Softmax()"
KERNELS: tuple[nystra.Kernel, ...] = (
    nystra.Nystrom.as_published(16, 2),
    nystra.Nystrom(),
    nystra.LandmarkPooling(16, 16, "own"),
    nystra.LandmarkPooling(16, 16, "cross"),
    nystra.LandmarkPooling(16, 64, "cross"),
    nystra.ContentPooling(16, 32, 2),
    nystra.Nystromformer(),
)
COLUMNS = (
    NAME,
    MILLISECONDS,
    Column("× fused", "fused", ".2f"),
    Column("× explicit", "explicit", ".1f"),
    Column("MiB", "bytes", ".1f", 2**-20),
)


def run_bench_attention(
    *,
    window: int = 32,
    windows: int = 4,
    heads: int = 6,
    channels: int = 30,
    bias: bool = True,
    kernels: Sequence[nystra.Kernel] | None = None,
    compiled: bool = False,
    memory: bool = False,
    repeats: int = 7,
    threads: int = 2,
    output: Path | None = None,
) -> dict[str, dict[str, float]]:
    """Time kernels on random queries, keys and values of windows, float32 on the CPU, in turn after a warm-up.

    Args:
        window: side of the windows, in tokens.
        windows: number of windows.
        heads: number of heads.
        channels: of a head.
        bias: whether there is a position bias (a random table).
        kernels: to be timed beside exact attention, explicit, by torch's fused program and as the package makes it (a
            native program where there is one); null: the package's, with 16 landmarks.
        compiled: whether every kernel is also timed as `torch.compile` makes it, which needs a C++ compiler.
        memory: whether peak memory is measured, in a process for each; tables of the position bias count.
        repeats: counted calls of each, of which the median counts.
        threads: of the processor.
        output: JSON file for the figures; null: only the table.

    Returns:
        Kernel → seconds, how many times faster than the fused and than the explicit softmax, bytes where measured.

    Raises:
        ValueError: if a number is below 1 or a kernel does not fit the window.
    """
    numbers = {"window": window, "windows": windows, "heads": heads, "channels": channels, "repeats": repeats}
    check_counts(**numbers, threads=threads)
    chosen = KERNELS if kernels is None else kernels
    for kernel in chosen:
        kernel.cost((window, window), channels)
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    query, key, value = (torch.randn(windows, heads, window**2, channels) for _ in range(3))
    query *= channels**-0.5
    table = TableBias(0.5 * torch.randn((2 * window - 1) ** 2, heads), (window, window)) if bias else None
    geometry = nystra.WindowGeometry((window, window), bias=table, tables={})
    ((_, _, kind),) = geometry.kinds(query.device)
    full = nystra.Softmax().tables(kind, query.dtype)
    calls = {
        EXPLICIT: functools.partial(explicit_softmax, query, key, value, full),
        FUSED: functools.partial(FusedSoftmax(), query, key, value, geometry),
        EXACT: functools.partial(nystra.Softmax(), query, key, value, geometry),
        **{str(kernel): functools.partial(kernel, query, key, value, geometry) for kernel in chosen},
    }
    if compiled:
        for kernel in chosen:
            attend = torch.compile(kernel.attend, dynamic=False)
            tables = kernel.tables(kind, query.dtype)
            calls[f"{kernel}, compiled"] = functools.partial(attend, query, key, value, tables)
    memory_calls: dict[str, Call] = {}
    if memory:
        tokens = torch.stack([query, key, value])
        for kernel in (FusedSoftmax(), nystra.Softmax(), *chosen):
            label = FUSED if isinstance(kernel, FusedSoftmax) else str(kernel)
            memory_calls[label] = (inference, SingleSite(kernel, window, table), tokens)
    with torch.inference_mode():
        results = profile([calls], repeats=repeats, memory=memory_calls)
    add_ratio(results, "fused", to=FUSED)
    add_ratio(results, "explicit", to=EXPLICIT)
    shape = f"{windows}×{heads}×{window**2}×{channels}{', position bias' if bias else ''}"
    Console().print(results_table(f"{shape}, {threads} threads, medians", labelled(results), COLUMNS))
    if output is not None:
        write_results(output, {**numbers, "bias": bias}, results)
    return results


class FusedSoftmax(nystra.Softmax):
    """Exact attention by torch's fused program, also where this package has a native one."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: Tensor | None) -> Tensor:
        """Attend as `Softmax` does in plain torch; a class that attends in its own way has no native program."""
        return super().attend(query, key, value, tables)


class SingleSite(nn.Module):
    """One kernel at one site, to be sent to a fresh process.

    Args:
        kernel: of the site.
        window: side of the windows.
        bias: of the site; None: none.
    """

    def __init__(self, kernel: nystra.Kernel, window: int, bias: PositionBias | None) -> None:
        super().__init__()
        self.kernel = kernel
        self.window = (window, window)
        self.bias = bias

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend within windows of queries, keys and values (3, W, h, N, d)."""
        return self.kernel(tokens[0], tokens[1], tokens[2], nystra.WindowGeometry(self.window, bias=self.bias))


def explicit_softmax(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """Attention as window models are published: N×N weights are written."""
    logits = query @ key.transpose(2, 3)
    return (logits if bias is None else logits + bias).softmax(3) @ value
