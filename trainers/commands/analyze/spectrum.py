"""`lowrank analyze spectrum`: what rank a checkpoint's attention has on images."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from datamodules.files.atomic import atomic_file
from datamodules.files.images import list_images
from glmha.attention.base import ChannelAttention
from glmha.shared.image_network import image_rules
from glmha.spectrum import rank_for_energy, spectrum
from nystra.analysis.spectrum import WindowSpectrum, window_spectra
from nystra.sites.site import sites_of
from trainers.commands.analyze.crops import central_crop
from trainers.commands.analyze.modules import read_modules
from trainers.errors import printable
from trainers.figures.spectrum import SHARES, draw_spectra
from trainers.networks import input_channels, load_network


def analyze_spectrum(
    images: Sequence[Path] = (),
    *,
    pretrained: str | Path | None = None,
    network: str | None = None,
    window_size: int | None = None,
    modules: Path | None = None,
    size: int | None = 256,
    title: str = "",
    output: Path = Path("logs/spectrum"),
) -> dict[str, Tensor]:
    """Measure the energy of the attention spectrum of every block on some images: what rank suffices.

    Of channel attention it is the spectrum of the matrix between channels (GLMHA, Fig. 1), of window attention that of
    the weights between tokens (PnP-Nystra, Fig. 1), under the kernels that the checkpoint records.

    Args:
        images: image files and folders of images.
        pretrained: checkpoint, as released or as trained here: a file, a name of `lowrank models`, or an address
            (https://…, hf://OWNER/NAME).
        network: function or class that makes a network of another library, as package.module:name; null: a network of
            this package, which the checkpoint tells.
        window_size: side of the windows that a network of this package attends in; null: as recorded, else as trained.
        modules: safetensors file of trained channel attentions with inputs of theirs, as `analyze warmstart` takes it,
            in place of images and pretrained.
        size: side in pixels of the central crop that the network sees; null: the whole image.
        title: of the figure.
        output: folder for the figure `spectrum` (PDF, PNG, CSV) and `spectrum.json`; made if it is missing.

    Returns:
        Name of the block → cumulative energy of its singular values, averaged over heads, windows and images.

    Raises:
        DataError: if an image is missing or cannot be read.
        ValueError: if the checkpoint does not fit, its network takes no images or has no attention of a known kind,
            or `size` is too small; or if neither or both of `modules` and `pretrained` are given.
    """
    if modules is not None:
        for name, value in (("pretrained", pretrained), ("network", network), ("window_size", window_size)):
            if value is not None:
                raise ValueError(f"{name} ({value}) must be null with modules ({modules}), which hold their weights")
        if images:
            raise ValueError(f"images ({images[0]}) must be left out with modules ({modules}), which hold their inputs")
        found = read_modules(modules)
        files: Sequence[Path] = [modules]
        count = sum(len(module.inputs) for module in found) // len(found)
        energies = {module.name: spectrum(module.attention, module.inputs)[""] for module in found}
        windows: dict[str, WindowSpectrum] = {}
    else:
        if pretrained is None or not images:
            raise ValueError(f"images ({len(images)}) and pretrained ({pretrained}) must be given, or modules")
        files = [file for path in images for file in (list_images(path, "images") if path.is_dir() else [path])]
        count = len(files)
        options: dict[str, Any] = {} if window_size is None else {"window_size": window_size}
        energies, windows = _spectra(load_network(pretrained, network, **options), files, size)
    ranks = {name: [rank_for_energy(energy, share) for share in SHARES] for name, energy in energies.items()}
    results = {
        name: {
            "energy": energy.tolist(),
            "rank": dict(zip(map(str, SHARES), ranks[name], strict=True)),
            **({"singular_values": windows[name].singular_values.tolist()} if name in windows else {}),
        }
        for name, energy in energies.items()
    }
    with atomic_file(output / "spectrum.json") as file:
        file.write(json.dumps({"images": [str(path) for path in files], "blocks": results}, indent=1).encode())
    values = {name: each.singular_values for name, each in windows.items()} or None
    _, picture, _ = draw_spectra(energies, values, title=title).save(output / "spectrum")
    table = Table(title=f"rank that holds a share of the spectrum's energy, {count} images")
    table.add_column("block")
    for column in ("singular values", *(f"{100 * share:g} %" for share in SHARES)):
        table.add_column(column, justify="right")
    for name, energy in energies.items():
        table.add_row(name, str(len(energy)), *map(str, ranks[name]))
    console = Console(markup=False, emoji=False)
    console.print(table)
    console.print(f"curves: {printable(str(picture))}", soft_wrap=True, highlight=False)
    console.print(f"figures: {printable(str(output / 'spectrum.json'))}", soft_wrap=True, highlight=False)
    return energies


def _spectra(
    net: nn.Module, files: Sequence[Path], size: int | None
) -> tuple[dict[str, Tensor], dict[str, WindowSpectrum]]:
    """Energies of every block; of window attention the singular values, too."""
    rules = image_rules(net)
    if size is not None and size < rules.size_multiple:
        raise ValueError(
            f"size ({size}) must be at least {rules.size_multiple}, the multiple that the network works on"
        )
    channels = input_channels(net)
    console = Console(markup=False, emoji=False)
    low, high = rules.value_range

    def inputs() -> Iterator[Tensor]:
        for file in track(files, "images", console=console, transient=True, disable=not console.is_terminal):
            yield central_crop(file, channels, size, rules.size_multiple) * (high - low) + low

    if any(isinstance(module, ChannelAttention) for module in net.modules()):
        return spectrum(net, inputs()), {}
    if not sites_of(net):
        raise ValueError(f"the network ({type(net).__name__}) must have channel or window attention, found none")
    windows = window_spectra(net, inputs())
    return {name: each.energy for name, each in windows.items()}, windows
