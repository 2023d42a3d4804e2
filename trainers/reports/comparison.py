"""Variants of a network compared: their figures and the table."""

import math
from dataclasses import dataclass

from rich import box
from rich.table import Table
from torch import Tensor

from trainers.evaluation.provenance import PARTIAL, share
from trainers.metrics.psnr_ssim import psnr

RELEASED = "released"
"""The name of the variant that the others are compared with."""


@dataclass(frozen=True)
class Comparison:
    """Figures of one variant of the model.

    Attributes:
        scores: metric → mean over the images.
        worst_drop: largest loss of the first metric on one image, against the released model.
        fidelity: mean PSNR of the output against the released model's, dB; infinite for that itself.
        worst_fidelity: lowest.
        seconds: median time of the first image, variants in turn.
        memory: bytes by which restoring the first image raises a fresh process's memory; None: not measured.
        flicker: change of the error between the frames of clips, see `trainers.metrics.flicker`; None: images.
        macs: multiply-adds of the attention for the first image; None: not known.
    """

    scores: dict[str, float]
    worst_drop: float
    fidelity: float
    worst_fidelity: float
    seconds: float
    memory: float | None
    flicker: float | None = None
    macs: float | None = None


def fidelity(image: Tensor, exact: Tensor) -> float:
    """PSNR in dB of an image (C, H, W) to the exact network's; of a clip (T, C, H, W) the mean over its frames."""
    frames, others = (each if each.ndim == 4 else each.unsqueeze(0) for each in (image, exact))
    return psnr(frames, others, space="rgb", border=0, quantise=False).mean().item()


def comparison_table(figures: dict[str, Comparison], metrics: list[str], images: int, whole: int = 0) -> Table:
    """The comparison as a table, a line per variant; `whole` is the number of images that the test sets have."""
    result = Table(title=f"{share(images, whole)} images", box=box.SIMPLE_HEAD, padding=0, collapse_padding=True)
    if images < whole:
        result.caption = PARTIAL
    result.add_column("", overflow="fold")
    with_macs = any(figure.macs is not None for figure in figures.values())
    with_memory = any(figure.memory is not None for figure in figures.values())
    of_clips = any(figure.flicker is not None for figure in figures.values())
    metrics = [*metrics, *(["flicker"] if of_clips else [])]
    unit = "clip" if of_clips else "image"
    further = [*(["GMAC"] if with_macs else []), *(["MiB"] if with_memory else [])]
    for column in (*metrics, "worst drop", "fidelity", "worst", f"s/{unit}", *further):
        result.add_column(column, justify="right")
    for name, figure in figures.items():
        cells = [f"{value:.2f}" if value >= 2 else f"{value:.4f}" for value in figure.scores.values()]
        cells += [] if figure.flicker is None else [f"{figure.flicker:.3f}"]
        cells += [f"{figure.worst_drop:.2f}"]
        cells += ["" if math.isinf(value) else f"{value:.1f}" for value in (figure.fidelity, figure.worst_fidelity)]
        cells.append(f"{figure.seconds:.2f}")
        if with_macs:
            cells.append("" if figure.macs is None else f"{figure.macs / 1e9:.2f}")
        if with_memory:
            cells.append("" if figure.memory is None else f"{figure.memory / 2**20:.0f}")
        result.add_row(name, *cells)
    return result
