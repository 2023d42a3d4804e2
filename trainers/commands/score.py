"""The verb `score`: a folder of restored images against a folder of clean ones, in a benchmark's protocol."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from datamodules.files.images import read_image
from datamodules.pairs.matching import pair_folders
from trainers.evaluation.scores import Evaluation, ImageScore
from trainers.metrics.base import ImageMetric
from trainers.metrics.conversion import as_images
from trainers.metrics.protocols import Protocol, protocol_metrics


def score_folders(
    folders: list[Path],
    *,
    protocol: Protocol | None = None,
    metrics: Sequence[ImageMetric] | None = None,
    scale: int | None = None,
    output: Path = Path("logs/score"),
) -> Evaluation:
    """Score restored images of any origin against their clean ones, and write every image's values.

    Images are matched by name, as in training: `1x4.png` belongs to `1.png` with scale 4, `rain-1.png` to
    `norain-1.png`.

    Args:
        folders: the folder of restored images, then the folder of clean ones.
        protocol: how a benchmark is measured: deraining, super_resolution, denoising, jpeg, gopro, sidd, realblur or
            sots; null: `metrics` are given instead.
        metrics: what is measured, if no protocol fits, such as trainers.metrics.PSNR.
        scale: factor of super-resolution, whose border is left out.
        output: folder for `metrics.json`; made if it is missing.

    Returns:
        The scores.

    Raises:
        DataError: if a folder is missing or empty, an image has no counterpart or cannot be read.
        ValueError: if there are not two folders, not exactly one of `protocol` and `metrics` is given, `scale` does not
            fit the protocol, or two images differ in size.
    """
    if len(folders) != 2:
        raise ValueError(
            f"folders ({', '.join(map(str, folders))}) must be two, restored images and clean ones, got "
            f"{len(folders)}; give RESTORED TARGET"
        )
    if (protocol is None) == (metrics is None):
        raise ValueError(
            f"protocol ({protocol}) must be given, or metrics instead of it: choose how a benchmark is measured, such "
            "as --protocol gopro"
        )
    if protocol is None and scale is not None:
        raise ValueError(f"scale ({scale}) must be given with protocol super_resolution only")
    chosen = list(metrics or []) if protocol is None else protocol_metrics(protocol, scale)
    names = [metric.name.lower() for metric in chosen]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"metrics ({', '.join(names) or 'none'}) must be at least one, each of another name")
    restored, target = folders
    pairs = pair_folders(restored, target, scale=scale or 1, input_argument="restored", target_argument="target")
    console = Console(stderr=True, markup=False, emoji=False)
    scores = []
    for source, clean, name in track(
        list(zip(pairs.inputs, pairs.targets, pairs.names, strict=True)),
        description="images",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ):
        # Alpha is copied by restorers, and no part of what is scored.
        images = [as_images(read_image(path)[..., :3]) for path in (source, clean)]
        try:
            values = {key: metric.measure(*images).item() for key, metric in zip(names, chosen, strict=True)}
        except ValueError as error:
            error.add_note(f"This was image {source}, whose target is {clean}.")
            raise
        scores.append(ImageScore(target.name, name, values))
    evaluation = Evaluation(
        scores,
        {key: metric.protocol for key, metric in zip(names, chosen, strict=True)},
        {target.name: len(scores)},
        {key: bool(metric.higher_is_better) for key, metric in zip(names, chosen, strict=True)},
    )
    evaluation.report(
        output,
        data=None,
        weights=None,
        seed=None,
        settings={"restored": str(restored), "target": str(target), "protocol": protocol},
    )
    return evaluation
