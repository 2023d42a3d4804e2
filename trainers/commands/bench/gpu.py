"""Everything that is worth timing on an accelerator, in one command and a bounded time."""

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import nystra
from datamodules.files.atomic import atomic_file
from trainers.commands.bench import attention, networks, windows
from trainers.devices.choice import choose_device, device_name
from trainers.reports.profiling import check_counts
from trainers.reports.tables import Column, labelled, markdown_table, write_results

# Transcriptions of the published structures, which are in a checkout and not in an installed package.
REFERENCE = "tests.reference"
TOKENS = 65536
KERNELS: tuple[nystra.Kernel, ...] = (
    nystra.LandmarkPooling(16, 16, "own"),
    nystra.LandmarkPooling(16, 64, "cross"),
    nystra.ContentPooling(),
    nystra.Nystrom.as_published(16, 2),
)


@dataclass(frozen=True)
class Section:
    """One table.

    Attributes:
        title: of the table.
        measure: gives name → figures.
        columns: what is shown of them.
    """

    title: str
    measure: Callable[[], Mapping[str, Mapping[str, Any]]]
    columns: tuple[Column, ...]


def run_bench_gpu(
    *,
    device: str = "auto",
    quick: bool = False,
    seconds: float = 300.0,
    repeats: int | None = None,
    output: Path = Path("logs/gpu"),
) -> dict[str, dict[str, dict[str, float]]]:
    """Time attentions and networks on an accelerator: the published structure and ours, eager and compiled.

    Window attention alone, of 64 to 16,384 tokens, against explicit softmax, torch's fused one and FlexAttention; then
    Restormer, SwinIR, MST++, DehazeFormer and Uformer in their released sizes, forward and (the learned ones) training
    step, with peak memory. In a checkout of the repository they are held against transcriptions of the published
    structures with the same weights.

    What fails, because memory runs out or a compiler is missing, is reported as failed; the rest goes on.

    Args:
        device: auto (CUDA, else MPS, else XPU, else CPU), cpu, cuda, cuda:1, …
        quick: whether only three small tables are made, uncompiled: to see whether it runs.
        seconds: after which no further table is begun; above 0.
        repeats: counted calls of each, of which the median counts; null: 7, or 1 if quick.
        output: folder for gpu.json and gpu.md; results in it are replaced.

    Returns:
        Title → name → figures; "failed" where there are none.

    Raises:
        ValueError: if there is no such device, or a number is out of range.
        OSError: if results cannot be written.
    """
    repeats = (1 if quick else 7) if repeats is None else repeats
    check_counts(repeats=repeats)
    if not seconds > 0:
        raise ValueError(f"seconds ({seconds}) must be above 0")
    name = device_name(choose_device(device))
    deadline = time.monotonic() + seconds
    console = Console(markup=False, emoji=False)
    results: dict[str, dict[str, Any]] = {}
    pages = [f"# {name}\n\ntorch {torch.__version__}, float32 unless said otherwise, medians of {repeats}."]
    for section in sections(device, quick=quick, repeats=repeats):
        if time.monotonic() > deadline:
            results[section.title] = {"failed": f"not begun: {seconds:g} seconds were over"}
        else:
            try:
                results[section.title] = dict(section.measure())
            # One table that an accelerator has no memory or no program for does not cost the others.
            except Exception as error:
                results[section.title] = {"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"}
        pages.append(_page(section, results[section.title]))
        # What is there is kept, whatever ends the command.
        write_results(output / "gpu.json", {"device": name, "quick": quick, "repeats": repeats}, results)
        with atomic_file(output / "gpu.md") as file:
            file.write("\n\n".join(pages).encode())
        if "failed" in results[section.title]:
            console.print(f"{section.title}: {results[section.title]['failed']}")
    console.print(f"results are in {output / 'gpu.md'} and {output / 'gpu.json'}")
    return results


def sections(device: str, *, quick: bool, repeats: int) -> list[Section]:
    """The tables, the most telling first."""
    accelerated = choose_device(device).type != "cpu"
    common: dict[str, Any] = {
        "device": device,
        "compiled": not quick,
        "repeats": repeats,
        "memory": accelerated,
        "threads": torch.get_num_threads(),
    }
    if quick:
        return [
            _attention(8, 1, common),
            _learned("mst-plus-plus", "mst_plus_plus.MSTPlusPlus", 16, common),
            _windows("swinir-light-x2", "swinir.SwinIR", 8, 16, common),
        ]
    return [
        *(_attention(side, TOKENS // side**2, common) for side in (8, 16, 32, 64, 128)),
        _learned("restormer", "restormer.Restormer", 256, common),
        _windows("swinir-m-x2", "swinir.SwinIR", 8, 128, common),
        _windows("swinir-m-x2", "swinir.SwinIR", 32, 128, common),
        _learned("mst-plus-plus", "mst_plus_plus.MSTPlusPlus", 256, common),
        _windows("dehazeformer-b", "dehazeformer.DehazeFormer", 8, 256, common),
        _windows("uformer-b", "uformer.Uformer", 8, 256, common),
    ]


def _attention(side: int, count: int, common: Mapping[str, Any]) -> Section:
    measure = functools.partial(
        attention.run_bench_attention, window=side, windows=count, kernels=KERNELS, bias=True, **common
    )
    return Section(f"window attention, {side**2} tokens, {count} × 6 × 30", measure, attention.COLUMNS)


def _learned(network: str, published: str, size: int, common: Mapping[str, Any]) -> Section:
    measure = functools.partial(networks.run_bench, network=network, size=size, baseline=_baseline(published), **common)
    return Section(f"{network}, 1×3×{size}×{size}", measure, networks.COLUMNS)


def _windows(network: str, published: str, side: int, size: int, common: Mapping[str, Any]) -> Section:
    measure = functools.partial(
        windows.run_bench_windows,
        network=network,
        window=side,
        height=size,
        width=size,
        kernels=KERNELS,
        baseline=_baseline(published),
        **common,
    )
    return Section(f"{network}, windows {side}×{side}, 1×3×{size}×{size}", measure, windows.COLUMNS)


def _baseline(published: str) -> str | None:
    # The parent package is imported by the search, so a missing one raises.
    there = find_spec("tests") is not None and find_spec(REFERENCE) is not None
    return f"{REFERENCE}.{published}" if there else None


def _page(section: Section, results: Mapping[str, Any]) -> str:
    if "failed" in results:
        return f"## {section.title}\n\n{results['failed']}"
    return f"## {section.title}\n\n{markdown_table(labelled(results), section.columns)}"
