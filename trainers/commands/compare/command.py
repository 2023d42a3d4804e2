"""The verb `compare`: a released model under other attention kernels, untrained: quality, fidelity, time, memory."""

import copy
import functools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib as mpl
import torch
from lightning.pytorch import LightningDataModule
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

import nystra
from datamodules.base import RestorationDataModule
from datamodules.files import atomic_file
from datamodules.images import to_array
from nystra import records
from nystra.sites import BiasMode
from trainers.evaluation import PARTIAL, current_seed, provenance, share, whole_sets
from trainers.measure import interleaved_medians, peak_memory
from trainers.metrics import PSNR, SSIM, ImageMetric, psnr
from trainers.tiling import restore

RELEASED = "released"
KERNELS: tuple[nystra.Kernel, ...] = (nystra.LandmarkPooling(), nystra.Nystrom(), nystra.Nystromformer())


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
    """

    scores: dict[str, float]
    worst_drop: float
    fidelity: float
    worst_fidelity: float
    seconds: float
    memory: float | None


def run_compare(
    data: LightningDataModule,
    *,
    pretrained: Path,
    kernels: Sequence[nystra.Kernel] | None = None,
    metrics: Sequence[ImageMetric] | None = None,
    window_size: int | None = None,
    position_bias: BiasMode = "keep",
    images: int | None = None,
    repeats: int = 3,
    memory: bool = True,
    output: Path = Path("logs/compare"),
) -> dict[str, Comparison]:
    """Compare a released window-attention model with itself under other kernels, on a data module's test images.

    Baselines are never one: the released model as it is; with `window_size`, exact attention in enlarged windows
    without bias (PnP-Nystra's "original") and with it; then every kernel, in those windows, with the bias.

    Args:
        data: data module; its test sets are used.
        pretrained: released checkpoint of SwinIR, Uformer or DehazeFormer.
        kernels: what replaces softmax; null: LandmarkPooling, Nystrom and Nystromformer as they come.
        metrics: quality against the ground truth; null: PSNR and SSIM on RGB.
        window_size: side of enlarged windows; null: those that the checkpoint records, else the trained ones.
        position_bias: what becomes of the trained position bias in them: keep, interpolate or drop.
        images: number of images, evenly spread over the test sets; null: all.
        repeats: timings of each variant, of which the median counts.
        memory: whether memory is measured, each variant in a process of its own.
        output: folder for `metrics.json` and `comparison.png`; made if it is missing.

    Returns:
        Variant → figures.

    Raises:
        CheckpointError: if the checkpoint is of no such model.
        ValueError: if a kernel does not fit the windows, a number is out of range or there are no images.
    """
    if repeats < 1 or (images is not None and images < 1):
        raise ValueError(f"repeats ({repeats}) and images ({images}) must be at least 1")
    measures = [PSNR(), SSIM()] if metrics is None else list(metrics)
    variants = build_variants(pretrained, KERNELS if kernels is None else kernels, window_size, position_bias)
    batches, whole = _samples(data, images)
    results: dict[str, list[Tensor]] = {name: [] for name in variants}
    console = Console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress, torch.inference_mode():
        for batch in progress.track(batches, description="images"):
            for name, net in variants.items():
                results[name].append(restore(net, batch["input"], tile=None, overlap=0).clamp(0, 1))
    targets = [batch["target"] for batch in batches]
    scores = {name: _scores(restored, targets, measures) for name, restored in results.items()}
    first = batches[0]["input"].unsqueeze(0)
    seconds = interleaved_medians(
        {name: functools.partial(whole_image, net, first) for name, net in variants.items()}, repeats=repeats
    )
    figures = {}
    for name, restored in results.items():
        fidelities = [_fidelity(image, exact) for image, exact in zip(restored, results[RELEASED], strict=True)]
        leading = measures[0].name
        drops = [before - after for before, after in zip(scores[RELEASED][leading], scores[name][leading], strict=True)]
        figures[name] = Comparison(
            scores={metric: fmean(values) for metric, values in scores[name].items()},
            worst_drop=max(drops),
            fidelity=fmean(fidelities),
            worst_fidelity=min(fidelities),
            seconds=seconds[name],
            memory=peak_memory(whole_image, variants[name], first) if memory else None,
        )
    about = {
        "data": type(data).__name__,
        "partial": len(batches) < whole,
        "images": [batch["name"] for batch in batches],
        "images_expected": whole,
        "window_size": window_size,
        "position_bias": position_bias,
        # As the checkpoint records, where it was fine-tuned.
        "attention": records.record(variants[RELEASED]),
        **provenance(pretrained, current_seed()),
    }
    _write(output, figures, scores, measures, about)
    draw(output / "comparison.png", results, batches[0])
    console.print(comparison_table(figures, [metric.name for metric in measures], len(batches), whole))
    for metric in measures:
        console.print(f"{metric.name}: {metric.protocol}", soft_wrap=True, highlight=False)
    console.print("fidelity: RGB PSNR, float, against the released model's output; worst: of one image")
    console.print(f"pictures: {output / 'comparison.png'}\nfigures: {output / 'metrics.json'}", highlight=False)
    return figures


def build_variants(
    pretrained: Path, kernels: Sequence[nystra.Kernel], window_size: int | None, position_bias: BiasMode
) -> dict[str, nn.Module]:
    """The released model, its enlarged forms and its substituted ones, by name.

    Raises:
        CheckpointError: if the checkpoint is of no such model.
        ValueError: if a kernel does not fit the windows.
    """
    # With the windows and kernels that it was fine-tuned with, if it was; then without, for others to take their place.
    released = nystra.load_pretrained(pretrained)
    variants = {RELEASED: released}
    enlarged: Any = released
    if window_size is not None:
        plain: Any = nystra.load_pretrained(pretrained, recorded=False)
        enlarged = copy.deepcopy(plain)
        plain.set_window(window_size, "drop")
        enlarged.set_window(window_size, position_bias)
        variants[f"window {window_size}, no bias"] = plain
        if position_bias != "drop":
            variants[f"window {window_size}, bias"] = enlarged
    for kernel in kernels:
        net = copy.deepcopy(enlarged)
        nystra.substitute(net, kernel)
        variants[str(kernel)] = net
    return variants


def whole_image(net: nn.Module, image: Tensor) -> Tensor:
    """Restore an image (1, C, H, W) of any size at once."""
    with torch.inference_mode():
        return restore(net, image, tile=None, overlap=0)


def _samples(data: LightningDataModule, count: int | None) -> tuple[list[dict[str, Any]], int]:
    """Test images, and how many there would be of whole test sets."""
    data.prepare_data()
    data.setup("test")
    loaders = data.test_dataloader()
    sets = [loader.dataset for loader in (loaders if isinstance(loaders, list) else [loaders])]
    every = [(dataset, index) for dataset in sets for index in range(len(dataset))]
    if not every:
        raise ValueError(f"data ({type(data).__name__}) must have test images, got none")
    step = 1 if count is None else max(1, math.ceil(len(every) / count))
    names = data.test_set_names if isinstance(data, RestorationDataModule) else map(str, range(len(sets)))
    whole = whole_sets(data, {name: len(dataset) for name, dataset in zip(names, sets, strict=True)})
    return [dataset[index] for dataset, index in every[::step][:count]], sum(whole.values())


def _scores(images: list[Tensor], targets: list[Tensor], metrics: list[ImageMetric]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for metric in metrics:
        values[metric.name] = []
        for image, target in zip(images, targets, strict=True):
            metric.reset()
            metric.update(image.unsqueeze(0), target.unsqueeze(0))
            values[metric.name].append(float(metric.compute()))
    return values


def _fidelity(image: Tensor, exact: Tensor) -> float:
    return psnr(image.unsqueeze(0), exact.unsqueeze(0), space="rgb", border=0, quantise=False).item()


def _write(
    folder: Path,
    figures: dict[str, Comparison],
    scores: dict[str, dict[str, list[float]]],
    metrics: list[ImageMetric],
    about: dict[str, Any],
) -> None:
    variants = {}
    for name, comparison in figures.items():
        # JSON has no infinity: the released model's fidelity to itself is left out.
        values = {key: value for key, value in asdict(comparison).items() if value != math.inf}
        variants[name] = {**values, "per_image": scores[name]}
    record = {**about, "protocol": {metric.name: metric.protocol for metric in metrics}, "variants": variants}
    with atomic_file(folder / "metrics.json") as file:
        file.write(json.dumps(record, indent=1).encode())


def comparison_table(figures: dict[str, Comparison], metrics: list[str], images: int, whole: int = 0) -> Table:
    """The comparison as a table, a line per variant; `whole` is the number of images that the test sets have."""
    result = Table(title=f"{share(images, whole)} images", box=box.SIMPLE_HEAD, padding=0, collapse_padding=True)
    if images < whole:
        result.caption = PARTIAL
    result.add_column("", overflow="fold")
    for column in (*metrics, "worst drop", "fidelity", "worst", "s/image", "MiB"):
        result.add_column(column, justify="right")
    for name, figure in figures.items():
        cells = [f"{value:.2f}" if value >= 2 else f"{value:.4f}" for value in figure.scores.values()]
        cells += [f"{figure.worst_drop:.2f}"]
        cells += ["" if math.isinf(value) else f"{value:.1f}" for value in (figure.fidelity, figure.worst_fidelity)]
        cells += [f"{figure.seconds:.2f}", "" if figure.memory is None else f"{figure.memory / 2**20:.0f}"]
        result.add_row(name, *cells)
    return result


def draw(path: Path, results: dict[str, list[Tensor]], sample: dict[str, Any]) -> None:
    """Write a sheet of the first image: results in a row, below them their differences from the released model, ×20."""
    exact = results[RELEASED][0]
    columns = {"input": sample["input"], **{name: images[0] for name, images in results.items()}}
    columns["target"] = sample["target"]
    crops = {name: _centre(image) for name, image in columns.items()}
    with mpl.rc_context({"font.size": 7}):
        figure = Figure(figsize=(2.6 * len(columns), 5.6), layout="constrained")
        axes = figure.subplots(2, len(columns), squeeze=False)
        for column, (name, image) in enumerate(crops.items()):
            axes[0][column].imshow(to_array(image), cmap="gray")
            axes[0][column].set_title(name.replace("(", "\n("), wrap=True)
            if name in results and name != RELEASED:
                difference = (results[name][0] - exact).abs().mean(0)
                axes[1][column].imshow(_centre(20 * difference).numpy(), cmap="magma", vmin=0, vmax=1)
                axes[1][column].set_title(f"|difference| x 20, {_fidelity(results[name][0], exact):.1f} dB")
        for axis in axes.flat:
            axis.set_axis_off()
        with atomic_file(path) as file:
            figure.savefig(file, dpi=110, format="png")


def _centre(image: Tensor, size: int = 192) -> Tensor:
    height, width = image.shape[-2:]
    top, left = max(0, (height - size) // 2), max(0, (width - size) // 2)
    return image[..., top : top + size, left : left + size]
