"""`lowrank analyze spectrum`: what rank a checkpoint's attention has on images."""

import json
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import glmha
from datamodules.files.atomic import atomic_file
from datamodules.files.images import list_images
from glmha.shared.image_network import image_rules
from glmha.spectrum import rank_for_energy, spectrum
from trainers.commands.analyze.crops import central_crop
from trainers.errors import printable
from trainers.networks import input_channels

SHARES = (0.9, 0.95, 0.99)
"""Shares of the energy whose rank is told."""


def analyze_spectrum(
    images: list[Path], *, pretrained: str | Path, output: Path = Path("logs/spectrum"), size: int | None = 256
) -> dict[str, Tensor]:
    """Measure the energy of the attention spectrum of every block on some images (GLMHA, Fig. 1): what rank suffices.

    Args:
        images: image files and folders of images.
        pretrained: checkpoint, as released or as trained here: a file, a name of `lowrank models`, or an address
            (https://…, hf://OWNER/NAME).
        output: folder for `spectrum.png` and `spectrum.json`; made if it is missing.
        size: side in pixels of the central crop that the network sees; null: the whole image.

    Returns:
        Name of the block → cumulative energy of its singular values, averaged over heads and images.

    Raises:
        DataError: if an image is missing or cannot be read.
        ValueError: if the checkpoint does not fit, its network takes no images or `size` is too small.
    """
    files = [file for path in images for file in (list_images(path, "images") if path.is_dir() else [path])]
    net = glmha.load_pretrained(pretrained)
    multiple = image_rules(net).size_multiple
    if size is not None and size < multiple:
        raise ValueError(f"size ({size}) must be at least {multiple}, the multiple that the network works on")
    channels = input_channels(net)
    console = Console(markup=False, emoji=False)
    shown = track(files, "images", console=console, transient=True, disable=not console.is_terminal)
    inputs = (central_crop(file, channels, size, multiple) for file in shown)
    energies = spectrum(net, inputs)
    ranks = {name: [rank_for_energy(energy, share) for share in SHARES] for name, energy in energies.items()}
    results = {
        name: {"energy": energy.tolist(), "rank": dict(zip(map(str, SHARES), ranks[name], strict=True))}
        for name, energy in energies.items()
    }
    with atomic_file(output / "spectrum.json") as file:
        file.write(json.dumps({"images": [str(path) for path in files], "blocks": results}, indent=1).encode())
    _draw_spectrum(output / "spectrum.png", energies)
    table = Table(title=f"rank that holds a share of the spectrum's energy, {len(files)} images")
    table.add_column("block")
    for column in ("singular values", *(f"{100 * share:g} %" for share in SHARES)):
        table.add_column(column, justify="right")
    for name, energy in energies.items():
        table.add_row(name, str(len(energy)), *map(str, ranks[name]))
    console.print(table)
    console.print(f"curves: {printable(str(output / 'spectrum.png'))}", soft_wrap=True, highlight=False)
    console.print(f"figures: {printable(str(output / 'spectrum.json'))}", soft_wrap=True, highlight=False)
    return energies


def _draw_spectrum(path: Path, energies: dict[str, Tensor]) -> None:
    with mpl.rc_context({"font.size": 8}):
        figure = Figure(figsize=(7, 5), layout="constrained")
        axis = figure.subplots()
        colours = mpl.colormaps["viridis"]
        for index, (name, energy) in enumerate(energies.items()):
            share = torch.arange(1, len(energy) + 1) / len(energy)
            axis.plot(share, energy, label=name, color=colours(index / max(1, len(energies) - 1)))
        axis.set_xlabel("singular values kept, share of a head's channels")
        axis.set_ylabel("share of the energy")
        axis.set_title("Energy of the attention spectrum, mean over heads and images (GLMHA, Fig. 1)")
        axis.grid(visible=True, alpha=0.3)
        if len(energies) <= 24:
            axis.legend(fontsize=5, loc="lower right")
        with atomic_file(path) as file:
            figure.savefig(file, dpi=150, format="png")
