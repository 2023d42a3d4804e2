"""Sheets of crops: input, exact, each variant and target side by side, with maps of their differences."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from datamodules.files.images import to_array
from trainers.figures.style import Drawing, bare, new_figure, split_label, styled
from trainers.metrics.psnr_ssim import psnr

CROP = 128
"""Side of a part that is chosen, in pixels."""
INPUT, TARGET = "input", "target"
"""Versions that are no result of a network."""
_MOST_COLUMNS = 6
_SIDE = 1.5
_TITLE_WIDTH = 25
# The scale of differences spans so many decades at most: a good kernel's are a hundredth of a bad one's.
_DECADES = 3.0


@dataclass(frozen=True)
class Region:
    """A part of an image, in pixels.

    Attributes:
        top: first row.
        left: first column.
        height: number of rows.
        width: number of columns.
    """

    top: int
    left: int
    height: int
    width: int

    def of(self, image: Tensor, whole: tuple[int, int]) -> Tensor:
        """Cut the part out of an image (..., H, W), whose pixels may be larger ones than those of the whole."""
        rows, columns = image.shape[-2] / whole[0], image.shape[-1] / whole[1]
        top, left = round(self.top * rows), round(self.left * columns)
        bottom, right = round((self.top + self.height) * rows), round((self.left + self.width) * columns)
        return image[..., top : max(bottom, top + 1), left : max(right, left + 1)]


@dataclass(frozen=True)
class Scene:
    """One image in all its versions.

    Attributes:
        name: of the image.
        versions: name → image (C, H, W) in [0, 1], in the order of the sheet. All but `INPUT` are of one size.
        region: what is shown of it; None: `CROP` pixels where the versions differ most.
    """

    name: str
    versions: Mapping[str, Tensor]
    region: Region | None = None


def draw_crops(scenes: Sequence[Scene], *, reference: str) -> Drawing:
    """Draw the same part of images in several versions, and how far each is from one of them.

    Of every image there is the whole with its part marked, then the part in every version, and below it the absolute
    difference from the reference, mean over the channels, on one logarithmic scale for all variants of the sheet.
    Under a version stands its PSNR to the target, and to the reference if that is another one, both over the whole
    image.

    Args:
        scenes: images, all in the same versions.
        reference: version that differences are from, such as the exact network's output, or the target.

    Returns:
        The figure; in its rows, for each version of each image: its PSNRs, the part, and the mean difference there.

    Raises:
        ValueError: if there are no images, or versions differ or do not fit each other.
    """
    _check(scenes, reference)
    names = list(scenes[0].versions)
    count = len(names) + 1
    strips = math.ceil(count / _MOST_COLUMNS)
    columns = math.ceil(count / strips)
    regions = [scene.region or differing_region(scene, reference) for scene in scenes]
    maps = [_difference_maps(scene, reference) for scene in scenes]
    parts = [
        {name: region.of(each, _size(scene)).numpy() for name, each in differences.items()}
        for scene, region, differences in zip(scenes, regions, maps, strict=True)
    ]
    norm = _scale([each for part in parts for name, each in part.items() if name not in (INPUT, TARGET)])
    with styled():
        figure = new_figure((2 * _SIDE + 0.65) * strips * len(scenes), _SIDE * columns + 0.8)
        axes = figure.subplots(2 * strips * len(scenes), columns, squeeze=False)
        for panel in axes.flat:
            bare(panel)
        shown = None
        rows: list[dict[str, Any]] = []
        for index, (scene, region, part) in enumerate(zip(scenes, regions, parts, strict=True)):
            _draw_whole(axes[2 * index * strips][0], scene, reference, region)
            for place, name in enumerate(names, 1):
                strip, column = 2 * (index * strips + place // columns), place % columns
                picture, below = axes[strip][column], axes[strip + 1][column]
                picture.imshow(
                    to_array(region.of(scene.versions[name], _size(scene))), cmap="gray", interpolation="nearest"
                )
                picture.set_title(wrapped(name), fontsize=7, pad=3)
                figures = _decibels(scene, name, reference)
                picture.set_xlabel(_caption(figures), fontsize=6.5, labelpad=2)
                row = {"image": scene.name, "version": name, **figures}
                if name in part:
                    shown = below.imshow(part[name], cmap="magma", norm=norm, interpolation="nearest")
                    row["mean difference in the part"] = float(part[name].mean())
                rows.append(
                    {**row, "top": region.top, "left": region.left, "height": region.height, "width": region.width}
                )
        if shown is not None:
            bar = figure.colorbar(shown, ax=axes, shrink=min(0.8, 3 / figure.get_figheight()), pad=0.015, aspect=25)
            bar.set_label(f"|difference from {reference}|, of 1", fontsize=7)
    return Drawing(figure, rows)


def differing_region(scene: Scene, reference: str, side: int = CROP) -> Region:
    """The square part of an image in which its versions differ most from the reference.

    Every version counts alike, however far it is off as a whole; without one, the target's difference counts.

    Args:
        scene: with the reference among its versions.
        reference: version that differences are from.
        side: of the part, in pixels; less where the image is smaller.
    """
    maps = _difference_maps(scene, reference)
    results = {name: each for name, each in maps.items() if name not in (INPUT, TARGET)} or maps
    height, width = (min(side, whole) for whole in _size(scene))
    total = np.zeros(_size(scene), np.float32)
    for each in results.values():
        total += each.numpy() / max(float(each.mean()), 1e-12)
    sums = cv2.integral(total)
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    return Region(int(top), int(left), height, width)


def wrapped(name: str) -> str:
    """A variant's name on several short lines: a kernel's arguments without their names, below its class."""
    if "(" not in name:
        return "\n".join(textwrap.wrap(name, _TITLE_WIDTH))
    kernel, sizes = split_label(name)
    return f"{kernel}\n({sizes})" if sizes else f"{kernel}()"


def _check(scenes: Sequence[Scene], reference: str) -> None:
    if not scenes:
        raise ValueError("scenes must hold at least one image, got none")
    for scene in scenes:
        if list(scene.versions) != list(scenes[0].versions):
            raise ValueError(f"image {scene.name} must be in the versions {', '.join(scenes[0].versions)} of the first")
        if reference not in scene.versions:
            raise ValueError(f"reference ({reference}) must be one of {', '.join(scene.versions)}")
        sizes = {name: tuple(image.shape) for name, image in scene.versions.items() if name != INPUT}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"image {scene.name} must have one size in all versions, got {sizes}")
        whole, region = scene.versions[reference].shape[-2:], scene.region
        if region and not (
            0 <= region.top < region.top + region.height <= whole[0]
            and 0 <= region.left < region.left + region.width <= whole[1]
        ):
            raise ValueError(f"region ({region}) must lie in the image {scene.name} of {whole[0]}×{whole[1]} pixels")


def _size(scene: Scene) -> tuple[int, int]:
    shape = next(image.shape for name, image in scene.versions.items() if name != INPUT)
    return shape[-2], shape[-1]


def _difference_maps(scene: Scene, reference: str) -> dict[str, Tensor]:
    exact = scene.versions[reference]
    return {
        name: (image - exact).abs().mean(0)
        for name, image in scene.versions.items()
        if name != reference and image.shape == exact.shape
    }


def _decibels(scene: Scene, name: str, reference: str) -> dict[str, float]:
    """PSNR of a version to the target and to the reference, over the whole image, where there are such."""
    image, told = scene.versions[name], {}
    for other in dict.fromkeys((TARGET, reference)):
        wanted = scene.versions.get(other)
        if wanted is not None and other != name and name != TARGET and wanted.shape == image.shape:
            told[f"dB to {other}"] = psnr(image[None], wanted[None], space="rgb", border=0, quantise=False).item()
    return told


def _scale(maps: Sequence[NDArray[np.float32]]) -> LogNorm:
    """One logarithmic scale on which what is usual in the least map and what is rare in the largest one are seen."""
    most = max((float(np.quantile(each, 0.999)) for each in maps), default=0.0) or 1.0
    least = min((float(np.median(each)) for each in maps), default=0.0)
    return LogNorm(min(max(least, most * 10**-_DECADES), most / 10), most, clip=True)


def _caption(figures: Mapping[str, float]) -> str:
    return "\n".join(f"{value:.2f} {what}" for what, value in figures.items() if math.isfinite(value))


def _draw_whole(axes: Axes, scene: Scene, reference: str, region: Region) -> None:
    axes.imshow(to_array(scene.versions[reference]), cmap="gray")
    axes.add_patch(Rectangle((region.left, region.top), region.width, region.height, fill=False, edgecolor="yellow"))
    axes.set_title("\n".join(textwrap.wrap(scene.name, _TITLE_WIDTH)), fontsize=7, pad=3)
    axes.set_xlabel(f"{region.height}×{region.width} at ({region.top}, {region.left})", fontsize=6.5, labelpad=2)
