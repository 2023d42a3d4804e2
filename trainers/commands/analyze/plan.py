"""`lowrank analyze plan`: the fastest kernels for a network within a loss of fidelity, on images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

import nystra
from datamodules.files.images import list_images
from glmha.shared.image_network import image_rules
from trainers.commands.analyze.crops import central_crop
from trainers.networks import input_channels, load_network


def analyze_plan(
    images: list[Path],
    *,
    pretrained: str | Path,
    network: str | None = None,
    window_size: int | None = None,
    budget_db: float = 45.0,
    precisions: Sequence[Literal["float32", "bf16"]] = ("float32",),
    size: int = 256,
    repeats: int = 3,
    seconds: float = 600.0,
    output: Path = Path("plan.yaml"),
) -> nystra.Plan:
    """Choose a kernel for every attention of a network, as fast as possible within a loss of fidelity.

    The first image is the sample: on it kernels are timed and chosen. On the others the whole network must keep the
    budget, too. What is chosen depends on the network, its windows and this machine.

    Args:
        images: image files and folders of images, two at least; the first one is the sample.
        pretrained: checkpoint, as released or as trained here: a file, a name of `lowrank models`, or an address
            (https://…, hf://OWNER/NAME).
        network: function or class that makes a network of another library, as package.module:name; null: a network of
            this package, which the checkpoint tells.
        window_size: side of the windows that a network of this package attends in; null: as recorded, else as trained.
        budget_db: fidelity to keep: PSNR of the network's output against its output under exact attention, in dB.
        precisions: float32, bf16, or both, of which the fastest is taken.
        size: side in pixels of the central crop that the network sees.
        repeats: timings of each, of which the median counts.
        seconds: after which no more sites are tried.
        output: file for the plan, which restore, compare and fit take.

    Returns:
        The plan.

    Raises:
        DataError: if an image is missing or cannot be read.
        ValueError: if the checkpoint or a number does not fit, or there are fewer than two images.
    """
    files = [file for path in images for file in (list_images(path, "images") if path.is_dir() else [path])]
    if len(files) < 2:
        raise ValueError(f"images must be two at least, a sample and one to check the plan on, got {len(files)}")
    options: dict[str, Any] = {} if window_size is None else {"window_size": window_size}
    net = load_network(pretrained, network, **options)
    rules = image_rules(net)
    low, high = rules.value_range
    channels = input_channels(net)
    crops = [central_crop(file, channels, size, rules.size_multiple) * (high - low) + low for file in files]
    plan = nystra.plan(
        net,
        crops[0],
        others=crops[1:],
        budget_db=budget_db,
        precisions=precisions,
        peak=high - low,
        repeats=repeats,
        seconds=seconds,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    plan.save(output)
    console = Console(markup=False, emoji=False)
    console.print(str(plan), soft_wrap=True, highlight=False)
    console.print(f"plan: {output}", soft_wrap=True, highlight=False)
    return plan
