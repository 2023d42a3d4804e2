"""The gallery: the pictures and figures of the documents, made by one command of bundled photographs.

    python docs/gallery.py                       # or: make gallery
    python docs/gallery.py --logs DIR --steps 2  # networks from DIR; untrained ones look as they are

The networks are the miniatures of `lowrank demo`. They are taken from its log folder, and trained where they are
missing. Every number in a picture is measured by this command and stands in `figures.json` beside the pictures.
"""

import dataclasses
import functools
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib as mpl
import torch
from jsonargparse import auto_cli
from matplotlib.figure import Figure
from torch import Tensor, nn

import glmha
import nystra
from datamodules import DemoDataModule
from datamodules.degradations import GaussianNoise
from datamodules.files import atomic_file, to_array, write_image
from glmha.shared.checkpoint_files import read
from nystra.sites.observation import observed
from nystra.sites.site import WindowAttention
from trainers.commands.analyze.spectrum import analyze_spectrum
from trainers.commands.demo.learned import run_learned_demo
from trainers.commands.demo.substitution import SIGMA, train_miniature
from trainers.evaluation.provenance import digest, provenance
from trainers.metrics import psnr
from trainers.reports.comparison import fidelity
from trainers.reports.profiling import interleaved_medians
from trainers.tiling.restoration import whole_image

# Windows of 32×32 pixels hold 1024 tokens: there a kernel of linear cost is worth something.
WINDOW = 32
KERNEL = nystra.Nystrom()
LABELS = {"rain": ("CSA, trained", "GLMHA, trained"), "noise": ("softmax, window 32", "Nystrom, untrained")}

# Sizes of every kernel, from cheap to dear.
SIZES: dict[str, tuple[nystra.Kernel, ...]] = {
    "LandmarkPooling, own": tuple(nystra.LandmarkPooling(16, cells, "own") for cells in (16, 64, 256)),
    "LandmarkPooling, cross": tuple(nystra.LandmarkPooling(16, cells, "cross") for cells in (16, 64)),
    "Nystrom": tuple(nystra.Nystrom(count, 2 * count) for count in (4, 16, 64)),
    "Nystromformer": tuple(nystra.Nystromformer(count) for count in (4, 16, 64)),
    "PublishedNystrom": tuple(nystra.PublishedNystrom(count) for count in (4, 16, 64)),
    "Performer": tuple(nystra.Performer(count) for count in (16, 64)),
}

# A window and the query whose attention is drawn, both in pixels of the first noisy photograph.
WINDOW_AT = (128, 176)
QUERY_AT = (5, 4)


@dataclasses.dataclass(frozen=True)
class Restored:
    """One restored image.

    Attributes:
        image: (3, H, W).
        decibels: PSNR, RGB, uint8.
        seconds: median of its restoration; None: it is the input.
    """

    image: Tensor
    decibels: float
    seconds: float | None

    @property
    def caption(self) -> str:
        """Decibels and seconds."""
        return f"{self.decibels:.2f} dB" + ("" if self.seconds is None else f", {self.seconds:.2f} s")


def main(
    logs: Path = Path("logs/demo"), output: Path = Path("docs/images"), steps: int = 500, repeats: int = 5
) -> None:
    """Make every picture and figure of the documents.

    Args:
        logs: log folder of `lowrank demo`; networks that are missing in it are trained into it.
        output: folder for pictures and `figures.json`.
        steps: training steps of a network that is missing, >= 1.
        repeats: timings of every restoration, of which the median counts, >= 1.
    """
    paths = trained(logs, steps)
    csa, low_rank = (glmha.load_pretrained(paths[name]) for name in ("CSA", "GLMHA"))
    exact, substituted = (nystra.load_pretrained(paths["SwinIR"], window_size=WINDOW) for _ in range(2))
    nystra.substitute(substituted, KERNEL)
    rain, noise = (test_samples(data) for data in (DemoDataModule(), DemoDataModule(GaussianNoise((SIGMA, SIGMA)))))
    rows = {
        "rain": compare(rain[-1], (csa, low_rank), repeats),
        "noise": compare(noise[0], (exact, substituted), repeats),
    }
    targets = {"rain": rain[-1]["target"], "noise": noise[0]["target"]}
    draw_restorations(output / "restored.jpg", rows)
    errors = draw_errors(output / "errors.jpg", rows, targets)
    points = quality_and_cost(exact, [centre(sample["input"], 128) for sample in noise])
    draw_quality(output / "quality.png", points, exact)
    window = draw_attention(output / "attention.png", nystra.load_pretrained(paths["SwinIR"]), noise[0]["input"])
    ranks = draw_spectrum(output / "spectrum.png", paths["CSA"], [sample["input"] for sample in rain])
    figures = {
        "restored": {
            task: [{"psnr": each.decibels, "seconds": each.seconds} for each in row] for task, row in rows.items()
        },
        "errors": errors,
        "quality": points,
        "attention": window,
        "rank_of_99_percent": ranks,
        "threads": torch.get_num_threads(),
        "networks": {
            name: {"steps": read(path)["global_step"], "sha256": digest(path)} for name, path in paths.items()
        },
        "versions": provenance(None, 0)["versions"],
    }
    with atomic_file(output / "figures.json") as file:
        file.write((json.dumps(figures, indent=1) + "\n").encode())


def trained(logs: Path, steps: int) -> dict[str, Path]:
    """Checkpoints of the demonstration's CSA, GLMHA and SwinIR, trained where they are missing."""
    if not all(any(logs.glob(f"learned/{name}/**/last.ckpt")) for name in ("CSA", "GLMHA")):
        run_learned_demo(logs / "learned", steps=steps)
    if not any(logs.glob("substitution/SwinIR/**/last.ckpt")):
        train_miniature(logs / "substitution", steps)
    parts = {"CSA": "learned", "GLMHA": "learned", "SwinIR": "substitution"}
    return {name: max(logs.glob(f"{part}/{name}/**/last.ckpt")) for name, part in parts.items()}


def test_samples(data: DemoDataModule) -> list[dict[str, Any]]:
    """The held-out images, as dictionaries of input and target, (3, H, W) each."""
    data.setup("test")
    (loader,) = data.test_dataloader()
    return [{"input": batch["input"][0], "target": batch["target"][0]} for batch in loader]


def compare(sample: dict[str, Any], nets: Sequence[nn.Module], repeats: int) -> list[Restored]:
    """The input, and what each network makes of it in which time; networks are timed in turn."""
    image, target = sample["input"].unsqueeze(0), sample["target"]
    seconds = interleaved_medians(
        {str(index): functools.partial(whole_image, net, image) for index, net in enumerate(nets)}, repeats=repeats
    )
    results = [whole_image(net, image).squeeze(0).clamp(0, 1) for net in nets]
    return [Restored(sample["input"], decibels(sample["input"], target), None)] + [
        Restored(result, decibels(result, target), time) for result, time in zip(results, seconds.values(), strict=True)
    ]


def decibels(image: Tensor, target: Tensor) -> float:
    """PSNR of images (3, H, W), RGB, uint8."""
    return psnr(image.unsqueeze(0), target.unsqueeze(0), space="rgb", border=0, quantise=True).item()


def centre(image: Tensor, size: int = 192) -> Tensor:
    """The middle of an image (..., H, W)."""
    top, left = ((side - size) // 2 for side in image.shape[-2:])
    return image[..., top : top + size, left : left + size]


def draw_restorations(path: Path, rows: dict[str, list[Restored]]) -> None:
    """A row for every task: input, exact attention, low-rank attention; decibels and seconds under each."""
    with mpl.rc_context({"font.size": 11}):
        figure = Figure(figsize=(9, 7.1), layout="constrained")
        axes = figure.subplots(len(rows), 3, squeeze=False)
        for axis_row, (task, row) in zip(axes, rows.items(), strict=True):
            for axis, title, restored in zip(axis_row, (task, *LABELS[task]), row, strict=True):
                axis.imshow(to_array(centre(restored.image)))
                axis.set_title(f"input: {task}" if restored.seconds is None else title)
                axis.set_xlabel(restored.caption)
                bare(axis)
        save(figure, path)


def draw_errors(path: Path, rows: dict[str, list[Restored]], targets: dict[str, Tensor]) -> dict[str, float]:
    """A row for every task: errors of both networks to the target, and how far they are from each other, in decibels.

    Returns:
        Task → PSNR of the low-rank result against the exact one.
    """
    apart = {}
    with mpl.rc_context({"font.size": 11}):
        figure = Figure(figsize=(9, 6.6), layout="constrained")
        axes = figure.subplots(len(rows), 3, squeeze=False)
        for axis_row, (task, (_, exact, low_rank)) in zip(axes, rows.items(), strict=True):
            target = targets[task]
            apart[task] = fidelity(low_rank.image, exact.image)
            maps = {
                f"|{LABELS[task][0]} - target|": ((exact.image - target).abs(), exact.caption),
                f"|{LABELS[task][1]} - target|": ((low_rank.image - target).abs(), low_rank.caption),
                "|one - the other|": ((exact.image - low_rank.image).abs(), f"{apart[task]:.1f} dB apart"),
            }
            for axis, (title, (error, caption)) in zip(axis_row, maps.items(), strict=True):
                shown = axis.imshow(centre(error.mean(0)).numpy(), cmap="magma", vmin=0, vmax=0.1)
                axis.set_title(title, fontsize=10)
                axis.set_xlabel(caption)
                bare(axis)
        figure.colorbar(shown, ax=axes, shrink=0.6, label="mean over colours, of 1")
        save(figure, path)
    return apart


def quality_and_cost(net: nn.Module, images: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Fidelity and cost of every kernel and size in a network with exact attention in its windows.

    Returns:
        For each: family, kernel, multiply-adds a token and head, mean fidelity in dB to exact attention.
    """
    wanted = [whole_image(net, image.unsqueeze(0)).squeeze(0).clamp(0, 1) for image in images]
    site = next(iter(nystra.find_sites(net).values()))
    points = []
    for family, kernels in SIZES.items():
        for kernel in kernels:
            nystra.substitute(net, kernel)
            results = [whole_image(net, image.unsqueeze(0)).squeeze(0).clamp(0, 1) for image in images]
            values = [fidelity(result, exact) for result, exact in zip(results, wanted, strict=True)]
            cost = kernel.cost(site.window_size, site.head_channels).macs
            points.append({"family": family, "kernel": str(kernel), "macs": cost, "fidelity": fmean(values)})
    nystra.substitute(net, nystra.Softmax())
    return points


def draw_quality(path: Path, points: Sequence[dict[str, Any]], net: nn.Module) -> None:
    """Fidelity against multiply-adds, a line for every family of kernels."""
    site = next(iter(nystra.find_sites(net).values()))
    exact = nystra.Softmax().cost(site.window_size, site.head_channels).macs
    with mpl.rc_context({"font.size": 10}):
        figure = Figure(figsize=(9, 4.4), layout="constrained")
        axis = figure.subplots()
        for family, marker in zip(SIZES, "os^vDX", strict=True):
            mine = [point for point in points if point["family"] == family]
            axis.plot([p["macs"] for p in mine], [p["fidelity"] for p in mine], marker=marker, label=family)
        axis.axvline(exact, color="grey", linestyle="--")
        axis.annotate(
            "exact attention", (exact, axis.get_ylim()[0]), rotation=90, ha="right", va="bottom", color="grey"
        )
        axis.set_xscale("log")
        axis.set_xlabel(f"multiply-adds per token and head, windows of {site.window_size[0]}×{site.window_size[1]}")
        axis.set_ylabel("fidelity to exact attention, dB")
        axis.set_title("Kernels exchanged without training, a miniature SwinIR, four noisy photographs", fontsize=10)
        axis.grid(visible=True, alpha=0.3)
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        save(figure, path)


def draw_attention(path: Path, net: nn.Module, image: Tensor) -> dict[str, float]:
    """Where a query looks in its window: exact attention, a kernel, and the difference.

    Args:
        path: of the picture.
        net: with exact attention; its windows are enlarged to 16×16 here.
        image: (3, H, W).

    Returns:
        Head → sum of |difference| of the query's weights: 0 for the same ones, 2 for no weight in common.
    """
    net.set_window(16, "keep")
    name, site = list(nystra.find_sites(net).items())[-2]
    kernel = nystra.LandmarkPooling(16, 64, "cross")
    top, left = (place - place % 16 for place in WINDOW_AT)
    with observed({name: site}, seen := _Seen(site, kernel)):
        whole_image(net, image.unsqueeze(0))
    exact, other = seen.weights(top // 16, left // 16, QUERY_AT[0] * 16 + QUERY_AT[1])
    apart = {}
    with mpl.rc_context({"font.size": 10}):
        figure = Figure(figsize=(9, 2.8 * len(exact)), layout="constrained")
        axes = figure.subplots(len(exact), 4, squeeze=False)
        for head, row in enumerate(axes):
            apart[f"head {head + 1}"] = float((exact[head] - other[head]).abs().sum())
            least, most = (float(each) for each in torch.stack([exact[head], other[head]]).aminmax())
            row[0].imshow(to_array(image[:, top : top + 16, left : left + 16]))
            row[0].set_title(f"window of 16×16, head {head + 1}")
            for axis, title, weights in zip(row[1:3], ("softmax", "LandmarkPooling"), (exact, other), strict=True):
                axis.imshow(weights[head].numpy(), cmap="viridis", vmin=least, vmax=most)
                axis.set_title(title)
            difference = (other[head] - exact[head]).numpy()
            row[3].imshow(difference, cmap="RdBu", vmin=-most, vmax=most)
            row[3].set_title("difference")
            row[3].set_xlabel(f"sum of |difference| {apart[f'head {head + 1}']:.2f}")
            for axis in row:
                axis.plot(QUERY_AT[1], QUERY_AT[0], "+", color="red", markersize=9)
                bare(axis)
        save(figure, path)
    return apart


class _Seen:
    """Keeps the queries and keys of one attention, and makes the weights of a query of them."""

    def __init__(self, site: WindowAttention, kernel: nystra.Kernel) -> None:
        self.kernels = (nystra.Softmax(), kernel)
        self.site = site
        self.given: tuple[Tensor, Tensor, nystra.WindowGeometry] | None = None

    def __call__(self, name: str, query: Tensor, key: Tensor, value: Tensor, geometry: nystra.WindowGeometry) -> None:
        self.given = (query, key, geometry)

    def weights(self, row: int, column: int, token: int) -> list[Tensor]:
        """Weights of a token's query to all keys of its window, by both kernels: (heads, h, w) each."""
        assert self.given is not None
        query, key, geometry = self.given
        window = slice(number := row * geometry.grid[1] + column, number + 1)
        # An inner window, which no border of the shifted feature map cuts. Values that are unit vectors give weights.
        inner = nystra.WindowGeometry(geometry.window, bias=self.site.position_bias())
        tokens = query.shape[2]
        unit = torch.eye(tokens).expand(1, query.shape[1], tokens, tokens).contiguous()
        made = (kernel(query[window], key[window], unit, inner)[0, :, token] for kernel in self.kernels)
        return [each.detach().unflatten(1, geometry.window) for each in made]


def draw_spectrum(path: Path, checkpoint: Path, images: Sequence[Tensor]) -> dict[str, int]:
    """The figure of `lowrank analyze spectrum`, of a trained network with full attention.

    Returns:
        Block → singular values that hold 99 % of the energy.
    """
    with tempfile.TemporaryDirectory() as folder:
        for index, image in enumerate(images):
            write_image(Path(folder) / f"{index}.png", to_array(image))
        analyze_spectrum([Path(folder)], pretrained=checkpoint, output=Path(folder) / "spectrum")
        record = json.loads((Path(folder) / "spectrum/spectrum.json").read_text())
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(folder) / "spectrum/spectrum.png", path)
    return {name: block["rank"]["0.99"] for name, block in record["blocks"].items()}


def bare(axis: Any) -> None:
    """Leave titles and labels of an axis, and nothing else."""
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def save(figure: Figure, path: Path) -> None:
    """Write a figure, complete or not at all: photographs as JPEG, drawings as PNG."""
    options: dict[str, Any] = {"pil_kwargs": {"quality": 88}} if path.suffix == ".jpg" else {}
    with atomic_file(path) as file:
        figure.savefig(file, dpi=110, format=path.suffix[1:].replace("jpg", "jpeg"), **options)


if __name__ == "__main__":
    auto_cli(main)
