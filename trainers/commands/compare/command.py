"""The verb `compare`: a released model under other attention kernels, untrained: quality, fidelity, time, memory."""

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

import nystra
from datamodules.base.restoration import RestorationDataModule
from datamodules.files.atomic import atomic_file
from nystra.sites import attention_record
from nystra.sites.site import BiasMode
from trainers.commands.compare.costs import attention_macs
from trainers.commands.compare.pictures import save_pictures
from trainers.commands.compare.variants import KERNELS, build_variants
from trainers.evaluation.data_sets import scored_frames, whole_sets
from trainers.evaluation.provenance import current_seed, provenance
from trainers.figures.sheets.crops import INPUT, TARGET, Scene, draw_crops
from trainers.figures.sheets.film_strip import draw_strips
from trainers.metrics.base import ImageMetric
from trainers.metrics.psnr_ssim import PSNR, SSIM
from trainers.metrics.temporal import flicker
from trainers.reports.comparison import RELEASED, Comparison, comparison_table, fidelity
from trainers.reports.profiling import check_counts, interleaved_medians, peak_memory
from trainers.tasks.clip_scores import clip_score
from trainers.tiling.clips import ClipTiles, sample_in_tiles


def run_compare(
    data: LightningDataModule,
    *,
    pretrained: str | Path,
    network: str | None = None,
    kernels: Sequence[nystra.Kernel] | None = None,
    plan: Path | None = None,
    metrics: Sequence[ImageMetric] | None = None,
    window_size: int | None = None,
    position_bias: BiasMode | None = None,
    images: int | None = None,
    tile: int | None = None,
    frames: int | None = None,
    repeats: int = 3,
    memory: bool = True,
    pictures: int = 1,
    output: Path = Path("logs/compare"),
) -> dict[str, Comparison]:
    """Compare a released window-attention model with itself under other kernels, on a data module's test images.

    Baselines come first: the released model as it is and, with `window_size`, exact attention in enlarged windows,
    without bias (PnP-Nystra's "original") and with it. Then every kernel follows, in those windows, with the bias. Of
    clips the flicker is measured beside the metrics, and film strips are drawn.

    Args:
        data: data module; its test sets are used.
        pretrained: released checkpoint of a window-attention network of this package, or of `network`: a file, a name
            of `lowrank models`, or an address (https://…, hf://OWNER/NAME).
        network: function or class that makes a network of another library, as package.module:name, found from the
            working directory or among installed packages; pretrained holds its weights. null: a network of this
            package, which the checkpoint tells.
        kernels: what replaces softmax; null: ContentPooling, LandmarkPooling, Nystrom and
            Nystromformer as they come.
        plan: file of a plan, from lowrank analyze plan, which is compared as well, with its memory format and
            precision; null: none.
        metrics: quality against the ground truth; null: PSNR and SSIM on RGB.
        window_size: side of enlarged windows; null: those that the checkpoint records, else the trained ones.
        position_bias: what becomes of the trained position bias in enlarged windows: keep, interpolate or drop; null:
            keep.
        images: number of images or clips, evenly spread over the test sets; null: all.
        tile: largest side in pixels of what the networks see at once; null: whole images. Tiles of clips overlap by 20
            pixels, others by 48.
        frames: most frames of a clip that the networks see at once, which overlap by two; null: whole clips.
        repeats: timings of each variant, of which the median counts.
        memory: whether memory is measured, each variant in a fresh process.
        pictures: number of images or clips that are drawn, evenly spread over those that are restored.
        output: folder for `metrics.json`, the sheet of pictures (`comparison.pdf`, .png, .csv) and the images by
            themselves (`pictures`).

    Returns:
        Variant → figures.

    Raises:
        CheckpointError: if the checkpoint is of no such model.
        ValueError: if a kernel does not fit the windows, a number is out of range, there are no images,
            `frames` is given for images, `position_bias` without `window_size`, or `window_size` with `network`.
    """
    if position_bias is not None and window_size is None:
        raise ValueError(
            f"position_bias ({position_bias}) must be given with window_size, because trained windows keep their bias; "
            "add --window_size or leave it out"
        )
    if network is not None and window_size is not None:
        raise ValueError(f"window_size ({window_size}) must be null with network ({network}), which keeps its windows")
    mode: BiasMode = position_bias or "keep"
    check_counts(repeats=repeats, pictures=pictures, **({} if images is None else {"images": images}))
    measures = [PSNR(), SSIM()] if metrics is None else list(metrics)
    variants = build_variants(pretrained, KERNELS if kernels is None else kernels, window_size, mode, network, plan)
    batches, whole = _samples(data, images)
    of_clips = batches[0]["target"].ndim == 4
    if frames is not None and not of_clips:
        raise ValueError(f"frames ({frames}) must be null for images; it is an option of clips")
    overlap = 0 if tile is None else 20 if of_clips else 48
    call = functools.partial(sample_in_tiles, tile=tile, overlap=overlap, tiles=ClipTiles(frames))
    results: dict[str, list[Tensor]] = {name: [] for name in variants}
    console = Console(markup=False, emoji=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress, torch.inference_mode():
        for batch in progress.track(batches, description="images"):
            for name, net in variants.items():
                results[name].append(call(net, batch["input"][None])[0].clamp(0, 1))
    targets = [batch["target"] for batch in batches]
    scores = {name: _scores(restored, targets, measures, data) for name, restored in results.items()}
    first = batches[0]["input"].unsqueeze(0)
    seconds = interleaved_medians(
        {name: functools.partial(call, net, first) for name, net in variants.items()}, repeats=repeats
    )
    peaks = {name: peak_memory(call, net, first) for name, net in variants.items()} if memory else {}
    macs = attention_macs(variants, call, first)
    figures = _figures(results, targets, scores, seconds, peaks, macs)
    about: dict[str, Any] = {
        "data": type(data).__name__,
        "partial": len(batches) < whole,
        "images": [batch["name"] for batch in batches],
        "images_expected": whole,
        "network": network,
        "plan": None if plan is None else str(plan),
        "tile": tile,
        "frames": frames,
        "window_size": window_size,
        "position_bias": None if window_size is None else mode,
        # As the checkpoint records, where it was fine-tuned.
        "attention": attention_record.record(variants[RELEASED]),
        **provenance(pretrained, current_seed()),
    }
    about["pictures"] = _draw(output, results, batches, pictures)
    _write(output, figures, scores, measures, about)
    console.print(comparison_table(figures, [metric.name for metric in measures], len(batches), whole))
    for metric in measures:
        console.print(f"{metric.name}: {metric.protocol}", soft_wrap=True, highlight=False)
    if of_clips:
        console.print("flicker: change of the error from frame to frame, root mean square, in grey levels of 255")
    console.print("fidelity: RGB PSNR, float, against the released model's output; worst: of one image")
    console.print(f"pictures: {output / 'comparison.png'}\nfigures: {output / 'metrics.json'}", highlight=False)
    return figures


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


def _draw(
    folder: Path, results: dict[str, list[Tensor]], batches: list[dict[str, Any]], pictures: int
) -> dict[str, dict[str, str]]:
    """Write the sheet of some images, or of some clips, and the images by themselves; return the files of these."""
    chosen = torch.linspace(0, len(batches) - 1, min(pictures, len(batches))).round().long().tolist()
    scenes = []
    for index in chosen:
        versions = {name: restored[index] for name, restored in results.items()}
        sample = batches[index]
        scenes.append(Scene(str(sample["name"]), {INPUT: sample["input"], **versions, TARGET: sample["target"]}))
    of_clips = batches[0]["target"].ndim == 4
    (draw_strips(scenes) if of_clips else draw_crops(scenes, reference=RELEASED)).save(folder / "comparison")
    return {} if of_clips else save_pictures(folder, scenes)


def _scores(
    images: list[Tensor], targets: list[Tensor], metrics: list[ImageMetric], data: LightningDataModule
) -> dict[str, list[float]]:
    """Metric → value of each image, or mean over the scored frames of each clip."""
    named = {metric.name: metric for metric in metrics}
    values: dict[str, list[float]] = {name: [] for name in named}
    for image, target in zip(images, targets, strict=True):
        frames, wanted = (each if each.ndim == 4 else each[None] for each in (image, target))
        numbers = scored_frames(data, len(frames)) if image.ndim == 4 else [0]
        score = clip_score(named, frames, wanted, numbers, data_set="", name="")
        for name, value in score.values.items():
            values[name].append(value)
    return values


def _figures(
    results: dict[str, list[Tensor]],
    targets: list[Tensor],
    scores: dict[str, dict[str, list[float]]],
    seconds: dict[str, float],
    peaks: dict[str, float],
    macs: dict[str, float],
) -> dict[str, Comparison]:
    """Figures of each variant from what was measured; the first metric is the one of the drops."""
    figures = {}
    leading = next(iter(scores[RELEASED]))
    for name, restored in results.items():
        fidelities = [fidelity(image, exact) for image, exact in zip(restored, results[RELEASED], strict=True)]
        drops = [before - after for before, after in zip(scores[RELEASED][leading], scores[name][leading], strict=True)]
        figures[name] = Comparison(
            scores={metric: fmean(values) for metric, values in scores[name].items()},
            worst_drop=max(drops),
            fidelity=fmean(fidelities),
            worst_fidelity=min(fidelities),
            seconds=seconds[name],
            memory=peaks.get(name),
            macs=macs.get(name),
            flicker=fmean(map(flicker, restored, targets)) if targets[0].ndim == 4 else None,
        )
    return figures


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
    results = {**about, "protocol": {metric.name: metric.protocol for metric in metrics}, "variants": variants}
    with atomic_file(folder / "metrics.json") as file:
        file.write(json.dumps(results, indent=1).encode())
