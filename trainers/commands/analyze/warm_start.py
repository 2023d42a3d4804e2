"""The verb `analyze warmstart`: what GLMHA's closed-form start is worth on trained channel-attention modules."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from glmha import GLMHA, ChannelAttention
from trainers.commands.analyze.modules import read_modules

STARTS = ("random", "from_dense")
Errors = dict[tuple[float, str], tuple[float, float]]


def analyze_warm_start(
    modules: Path,
    *,
    reductions: Sequence[float] = (0.25, 0.5, 0.75),
    steps: int = 300,
    learning_rate: float = 1e-3,
    blocks: int | None = None,
    seed: int = 0,
) -> Errors:
    """Start GLMHA from trained exact attention and at random, fit both alike, compare their errors on another image.

    Calibrated and fitted on every module's image 0, in halves; the relative L2 error of the output is that on image 1.

    Args:
        modules: safetensors file with `block{i}.weight.*` (an exact attention in Restormer's layout) and the inputs
            `block{i}.image{j}.input` (C, H, W), j = 0 and 1, of every module i.
        reductions: fractions of the channels of keys and values removed.
        steps: of Adam on the mean squared error of the output.
        learning_rate: of Adam, decayed to 0 by a cosine; the same for both starts.
        blocks: number of modules; null: all.
        seed: of the random start.

    Returns:
        (reduction, start) → mean error before and after the fit.

    Raises:
        CheckpointError: if the file holds no such modules.
        ValueError: if a number is out of range.
    """
    if steps < 1 or not learning_rate > 0 or (blocks is not None and blocks < 1):
        raise ValueError(
            f"steps ({steps}) and blocks ({blocks}) must be at least 1, and learning_rate ({learning_rate}) above 0"
        )
    found = read_modules(modules)[:blocks]
    errors: dict[tuple[float, str], list[tuple[float, float]]] = {}
    for module in found:
        dense, (first, held_out) = module.attention, module.inputs
        fitted = list(first.chunk(2, 3))
        for reduction in reductions:
            for start in STARTS:
                torch.manual_seed(seed)
                net = _start(start, dense, fitted, reduction)
                before = _error(net, dense, held_out)
                _fit(net, dense, fitted, steps, learning_rate)
                errors.setdefault((reduction, start), []).append((before, _error(net, dense, held_out)))
    means = {key: (fmean(b for b, _ in values), fmean(a for _, a in values)) for key, values in errors.items()}
    Console(markup=False, emoji=False).print(_table(means, len(found), steps, learning_rate))
    return means


def _start(start: str, dense: ChannelAttention, images: list[Tensor], reduction: float) -> GLMHA:
    if start == "random":
        return GLMHA(dense.channels, dense.heads, reduction=reduction)
    with torch.no_grad():
        net = GLMHA.from_dense(dense, images, reduction=reduction)
    return net.requires_grad_()


def _fit(net: nn.Module, dense: nn.Module, images: list[Tensor], steps: int, learning_rate: float) -> None:
    targets = [dense(image) for image in images]
    optimizer = torch.optim.Adam(net.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        optimizer.zero_grad()
        index = step % len(images)
        (net(images[index]) - targets[index]).square().mean().backward()
        optimizer.step()
        schedule.step()


def _error(net: Callable[[Tensor], Tensor], dense: Callable[[Tensor], Tensor], image: Tensor) -> float:
    with torch.no_grad():
        wanted = dense(image)
        return float((net(image) - wanted).norm() / wanted.norm())


def _table(means: Errors, modules: int, steps: int, learning_rate: float) -> Table:
    table = Table(
        "reduction",
        "start",
        "error",
        "after the fit",
        title=f"{modules} modules, {steps} steps of Adam at {learning_rate:g}",
    )
    for (reduction, start), (before, after) in means.items():
        table.add_row(f"{reduction:.0%}", start, f"{before:.3f}", f"{after:.3f}")
    return table
