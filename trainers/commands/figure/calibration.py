"""`lowrank figure calibration`: the calibration vectors of a GLMHA network by input."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import glmha
from datamodules.files.images import list_images
from glmha.low_rank.glmha import Calibration
from glmha.shared.image_network import image_rules
from trainers.commands.analyze.crops import central_crop
from trainers.commands.figure.output import tell
from trainers.figures.calibration import draw_calibration
from trainers.figures.style import Drawing
from trainers.monitoring.attention import evenly_chosen, named
from trainers.networks import input_channels
from trainers.reports.profiling import check_counts


def figure_calibration(
    images: list[Path],
    *,
    pretrained: str | Path,
    blocks: int = 6,
    size: int | None = 256,
    title: str = "",
    output: Path = Path("logs/figures/calibration"),
) -> Drawing:
    """Draw which image makes which channel louder: the calibration vectors a of GLMHA's blocks (Eq. 4).

    Args:
        images: image files and folders of images.
        pretrained: checkpoint of a network with GLMHA: a file, a name of `lowrank models`, or an address.
        blocks: number of blocks that are drawn, evenly spread over the network, the first and the last among them.
        size: side in pixels of the central crop that the network sees; null: the whole image.
        title: of the figure.
        output: name of the files: PDF, PNG and CSV; their folder is made if it is missing.

    Returns:
        The figure and every weight.

    Raises:
        DataError: if an image is missing or cannot be read.
        ValueError: if the checkpoint does not fit, has no calibration, or a number is out of range.
    """
    check_counts(blocks=blocks)
    files = [file for path in images for file in (list_images(path, "images") if path.is_dir() else [path])]
    net = glmha.load_pretrained(pretrained)
    chosen = evenly_chosen(named(net, Calibration), blocks)
    if not chosen:
        raise ValueError(
            f"pretrained ({pretrained}) must be a network with GLMHA and alpha above 0, has no calibration"
        )
    vectors: dict[str, list[Tensor]] = {name: [] for name in chosen}

    def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _module, _inputs, weights: vectors[name].append(weights)

    handles = [module.register_forward_hook(keep(name)) for name, module in chosen.items()]
    multiple, channels = image_rules(net).size_multiple, input_channels(net)
    with torch.no_grad():
        for file in files:
            net(central_crop(file, channels, size, multiple))
    for handle in handles:
        handle.remove()
    weights = {name.removesuffix(".calibration"): torch.cat(rows) for name, rows in vectors.items()}
    drawing = draw_calibration(weights, [file.stem for file in files], title=title)
    tell(drawing, output)
    return drawing
