"""The verb `analyze`: what networks cost beside what the papers say, and how much rank their attention has."""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

import glmha
from datamodules.errors import DataError
from datamodules.files import atomic_file
from datamodules.images import convert_channels, list_images, read_image, to_tensor
from glmha.attention import AttentionFactory
from glmha.complexity import Complexity, count
from glmha.spectrum import rank_for_energy, spectrum
from trainers.restore import input_channels

SHARES = (0.9, 0.95, 0.99)
"""Shares of the energy whose rank is told."""


@dataclass(frozen=True)
class PublishedRow:
    """A network of a published table.

    Attributes:
        method: the row's name there.
        attention: what it has in place of channel self-attention, one factory or one per level.
        gmacs: published "FLOPs (G)".
        parameters: published "Params (M)".
    """

    method: str
    attention: AttentionFactory | list[AttentionFactory]
    gmacs: float
    parameters: float


@dataclass(frozen=True)
class PublishedTable:
    """A table of the GLMHA paper: costs of one host with several attentions. The first row is full attention.

    Attributes:
        title: number and task.
        host: makes the network of an attention.
        shapes: of the inputs that it is counted with.
        rows: of the table.
    """

    title: str
    host: Callable[..., nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    rows: tuple[PublishedRow, ...]


def _comparison(
    dense: tuple[float, float], reformer: float, linformer: float, performer: float, low_rank: tuple[float, float]
) -> tuple[PublishedRow, ...]:
    return (
        PublishedRow("CSA", glmha.ChannelAttention, *dense),
        PublishedRow("Reformer", glmha.ReformerChannelAttention, reformer, dense[1]),
        PublishedRow("Linformer", glmha.LinformerChannelAttention, linformer, dense[1]),
        PublishedRow("Performer", glmha.PerformerChannelAttention, performer, dense[1]),
        PublishedRow("GLMHA", glmha.GLMHA, *low_rank),
    )


def _reduced(percent: int, gmacs: float, parameters: float) -> PublishedRow:
    return PublishedRow(
        f"GLMHA {percent} %", functools.partial(glmha.GLMHA, reduction=percent / 100), gmacs, parameters
    )


def _levels(name: str, low_rank: int, gmacs: float, parameters: float) -> PublishedRow:
    return PublishedRow(name, [glmha.GLMHA] * low_rank + [glmha.ChannelAttention] * (4 - low_rank), gmacs, parameters)


_RGB = ((1, 3, 256, 256),)
# A measurement shifted back and its mask, dispersed by two pixels a band.
_CASSI = ((1, 28, 256, 256), (1, 28, 256, 256 + 2 * 27))
_MST_L = functools.partial(glmha.MST, dim=28, stage=2, num_blocks=(4, 7, 5))

TABLES = {
    1: PublishedTable(
        "Table 1: MST++, NTIRE 2022 spectral reconstruction",
        glmha.MSTPlusPlus,
        _RGB,
        _comparison((23.05, 1.62), 23.17, 23.17, 23.15, (22.13, 1.60)),
    ),
    2: PublishedTable(
        "Table 2: MST-L, snapshot compressive imaging",
        _MST_L,
        _CASSI,
        _comparison((28.15, 2.03), 28.37, 28.27, 28.34, (27.01, 2.00)),
    ),
    3: PublishedTable(
        "Table 3: Restormer, motion deblurring (GoPro)",
        glmha.Restormer,
        _RGB,
        _comparison((140.99, 26.13), 137.12, 137.26, 138.26, (133.27, 25.76)),
    ),
    4: PublishedTable(
        "Table 4: Restormer, deraining (Rain13k)",
        glmha.Restormer,
        _RGB,
        _comparison((140.99, 26.13), 138.25, 137.16, 139.61, (134.53, 25.78)),
    ),
    7: PublishedTable(
        "Table 7: Restormer, deraining, reduction of K and V",
        glmha.Restormer,
        _RGB,
        (
            PublishedRow("CSA", glmha.ChannelAttention, 140.99, 26.13),
            _reduced(25, 139.45, 26.05),
            _reduced(50, 134.53, 25.78),
            _reduced(75, 126.11, 24.87),
            _reduced(90, 124.79, 23.31),
        ),
    ),
    9: PublishedTable(
        "Table 9: Restormer, deraining, GLMHA at some levels",
        glmha.Restormer,
        _RGB,
        (
            PublishedRow("CSA", glmha.ChannelAttention, 140.99, 26.12),
            _levels("level 1", 1, 139.98, 26.10),
            _levels("levels 1-2", 2, 138.80, 26.05),
            _levels("levels 1-3", 3, 137.40, 25.93),
            _levels("all levels", 4, 134.53, 25.78),
        ),
    ),
}
"""Tables of the GLMHA paper that have columns of FLOPs and parameters, by number."""

NOTES = """\
G: 1e9 multiply-adds for a 256×256 input and the change against CSA. M: 1e6 parameters.
paper:    as published.
layers:   convolutions and linear maps of the published module structure. Restormer's 140.99 is this count.
products: the layers and the products inside the attention, Q Kᵀ and A V (torch's FlopCounterMode, halved).
here:     every product that runs in this package: W_out A V as (W_out A) V, cosines by the Gram route.
MST++'s published 23.05 is its products + 0.10 of LayerNorm + 0.76 for transposed convolutions counted twice.
The paper's own savings are smaller than its Eq. (8) gives for full replacement; the counts here follow Eq. (8).
How Reformer, Linformer and Performer were put on channels the paper does not say: their counts are this package's."""


def analyze_complexity(tables: Sequence[int] = (), *, output: Path | None = None) -> dict[str, list[dict]]:
    """Print the FLOPs and parameters of the GLMHA paper's tables, published beside counted.

    Args:
        tables: numbers of the paper's tables: 1, 2, 3, 4, 7, 9; none: all.
        output: JSON file for the figures; null: only the tables.

    Returns:
        Title of the table → its rows: method, published and counted figures.

    Raises:
        ValueError: if the paper has no such table of costs.
    """
    numbers = tables or list(TABLES)
    for number in numbers:
        if number not in TABLES:
            raise ValueError(f"tables ({number}) must be of {', '.join(map(str, TABLES))}: they have columns of costs")
    console = Console()
    results = {}
    for number in numbers:
        published = TABLES[number]
        counts = [_count(published, row) for row in published.rows]
        console.print(_cost_table(published, counts))
        results[published.title] = [
            {
                "method": row.method,
                "published": {"gmacs": row.gmacs, "parameters_millions": row.parameters},
                "counted": asdict(cost),
            }
            for row, cost in zip(published.rows, counts, strict=True)
        ]
    console.print(NOTES, soft_wrap=True, highlight=False)
    if output is not None:
        with atomic_file(output) as file:
            file.write(json.dumps(results, indent=2).encode())
        console.print(f"figures: {output}", soft_wrap=True, highlight=False)
    return results


def _count(published: PublishedTable, row: PublishedRow) -> Complexity:
    with torch.device("meta"):
        net = published.host(attention=row.attention)
    return count(net, *published.shapes)


def _cost_table(published: PublishedTable, counts: list[Complexity]) -> Table:
    # Four counts and their changes are to fit in 80 columns.
    result = Table(title=published.title, box=box.SIMPLE_HEAD, padding=0, collapse_padding=True)
    result.add_column("", no_wrap=True)
    for column in ("paper G", "layers G", "products G", "here G", "paper M", "M"):
        result.add_column(column, justify="right", no_wrap=True)
    first, dense = published.rows[0], counts[0]
    for row, cost in zip(published.rows, counts, strict=True):
        result.add_row(
            row.method,
            _change(row.gmacs, first.gmacs),
            _change(cost.layer_macs / 1e9, dense.layer_macs / 1e9),
            _change(cost.published_macs / 1e9, dense.published_macs / 1e9),
            _change(cost.macs / 1e9, dense.macs / 1e9),
            f"{row.parameters:.2f}",
            f"{cost.parameters / 1e6:.2f}",
        )
    return result


def _change(value: float, reference: float) -> str:
    return f"{value:.2f} {100 * (value / reference - 1):+.1f}%" if value != reference else f"{value:.2f}"


def analyze_spectrum(
    images: list[Path], *, pretrained: Path, output: Path = Path("logs/spectrum"), size: int | None = 256
) -> dict[str, Tensor]:
    """Measure the energy of the attention spectrum of every block on some images (GLMHA, Fig. 1): what rank suffices.

    Args:
        images: image files and folders of images.
        pretrained: checkpoint, as released or as trained here.
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
    multiple = getattr(net, "size_multiple", 1)
    if size is not None and size < multiple:
        raise ValueError(f"size ({size}) must be at least {multiple}, the multiple that the network works on")
    channels = input_channels(net)
    console = Console()
    shown = track(files, "images", console=console, transient=True, disable=not console.is_terminal)
    inputs = (_central_crop(file, channels, size, multiple) for file in shown)
    energies = spectrum(net, inputs)
    ranks = {name: [rank_for_energy(energy, share) for share in SHARES] for name, energy in energies.items()}
    record = {
        name: {"energy": energy.tolist(), "rank": dict(zip(map(str, SHARES), ranks[name], strict=True))}
        for name, energy in energies.items()
    }
    with atomic_file(output / "spectrum.json") as file:
        file.write(json.dumps({"images": [str(path) for path in files], "blocks": record}, indent=1).encode())
    _draw_spectrum(output / "spectrum.png", energies)
    table = Table(title=f"rank that holds a share of the spectrum's energy, {len(files)} images")
    table.add_column("block")
    for column in ("singular values", *(f"{100 * share:g} %" for share in SHARES)):
        table.add_column(column, justify="right")
    for name, energy in energies.items():
        table.add_row(name, str(len(energy)), *map(str, ranks[name]))
    console.print(table)
    console.print(f"curves: {output / 'spectrum.png'}", soft_wrap=True, highlight=False)
    console.print(f"figures: {output / 'spectrum.json'}", soft_wrap=True, highlight=False)
    return energies


def _central_crop(path: Path, channels: int, size: int | None, multiple: int) -> Tensor:
    array = convert_channels(read_image(path)[..., :3], channels)
    height, width = (side if size is None else min(side, size) for side in array.shape[:2])
    height, width = height - height % multiple, width - width % multiple
    if not height or not width:
        raise DataError(f"image {path} must be at least {multiple} pixels high and wide, got {array.shape[:2]}")
    top, left = (array.shape[0] - height) // 2, (array.shape[1] - width) // 2
    return to_tensor(array[top : top + height, left : left + width])[None]


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
