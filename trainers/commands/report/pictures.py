"""Scenes of a report: pictures that validation logged, that a comparison saved, and that several runs restored."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from datamodules.errors import DataError
from datamodules.files.decoding import decode
from datamodules.files.images import convert_channels, is_image, read_image
from trainers.commands.report.results import Result
from trainers.commands.report.sources import Sources
from trainers.monitoring.logged import Logged
from trainers.reports.page.content import Block, Layer, Pixels, Scene, Viewer
from trainers.reports.pictures import triplet_panels

MOST_SCENES = 12
"""Scenes of one viewer."""
_LARGEST = 64 * 2**20
"""Pixels of a picture that is decoded."""
_INPUT, _TARGET = "input", "target"


def logged_scenes(logged: Logged, *, triplets: bool) -> list[Scene]:
    """Scenes of what validation logged: input and target, and the output at every step that is kept.

    Args:
        logged: what a run has logged.
        triplets: whether its task draws input, output and target side by side; other pictures are shown as they are.
    """
    scenes = []
    for tag, steps in list(logged.pictures.items())[:MOST_SCENES]:
        pictures = {step: pixels for step, content in steps if (pixels := _decoded(content, tag)) is not None}
        if not pictures:
            continue
        name = tag.removeprefix("val/")
        panels = {step: triplet_panels(picture) for step, picture in pictures.items()} if triplets else {}
        last = max(pictures)
        if panels and all(panels.values()) and len({panel["target"].shape for panel in panels.values()}) == 1:
            layers = [Layer("input", panels[last]["input"], "input")]
            layers += [Layer(f"output, step {step}", panel["output"]) for step, panel in panels.items()]
            layers.append(Layer("target", panels[last]["target"], "target"))
            scenes.append(Scene(name, layers))
        else:
            scenes.append(Scene(name, [Layer(f"step {last}", pictures[last])]))
    return scenes


def merged_scenes(scenes: Mapping[str, Sequence[Scene]]) -> list[Scene]:
    """Scenes of the images that several runs validated on: the input, each run's last output, the target.

    The same name does not make it the same input; runs with another one have scenes of their own.

    Args:
        scenes: name of the run → what it logged.
    """
    merged: dict[tuple[str, int], list[Layer]] = {}
    for run, each in scenes.items():
        for scene in each:
            first, last = scene.layers[0], [layer for layer in scene.layers if layer.role == "variant"][-1]
            number = 0
            while (known := merged.get((scene.name, number))) and not _same(known[0], first, last):
                number += 1
            if first.role != "input":
                merged[scene.name, number] = [Layer(run, last.pixels)]
                continue
            layers = merged.setdefault((scene.name, number), [first, scene.layers[-1]])
            layers.insert(-1, Layer(run, last.pixels))
    return [Scene(f"{name} ({number + 1})" if number else name, layers) for (name, number), layers in merged.items()][
        :MOST_SCENES
    ]


def pictures_of_results(results: Sequence[Result], sources: Sources) -> list[Block]:
    """Viewers of what comparisons saved, and of the sheets that stand beside results.

    Args:
        results: of any kind.
        sources: what may be read.
    """
    found = {f"Compared in {result.name}": compared_scenes(result, sources.holds) for result in results}
    for folder in dict.fromkeys(result.file.parent for result in results):
        found[f"Pictures in {sources.name(folder)}"] = sheets(folder, sources.holds)
    return [Viewer(title, scenes) for title, scenes in found.items() if scenes]


def compared_scenes(result: Result, allowed: Callable[[Path], bool]) -> list[Scene]:
    """Scenes of the pictures that a comparison saved beside its figures.

    Args:
        result: of a comparison.
        allowed: whether a file may be read.
    """
    scenes = []
    for name, files in list(result.pictures.items())[:MOST_SCENES]:
        pictures = {label: _read(file) for label, file in files.items() if allowed(file)}
        scene = _scene(name, {label: pixels for label, pixels in pictures.items() if pixels is not None})
        if scene is not None:
            scenes.append(scene)
    return scenes


def restored_scenes(folders: Mapping[str, Path], allowed: Callable[[Path], bool]) -> list[Scene]:
    """Scenes of restored images, `images/SET/NAME` in log folders; of several runs those that all of them restored.

    Args:
        folders: name → log folder.
        allowed: whether a file may be read.
    """
    found = {
        name: {file.relative_to(folder / "images"): file for file in _images(folder / "images") if allowed(file)}
        for name, folder in folders.items()
    }
    found = {name: files for name, files in found.items() if files}
    if not found:
        return []
    common = sorted(set.intersection(*map(set, found.values())))
    scenes = []
    for path in common[:MOST_SCENES]:
        pictures = {name: _read(files[path]) for name, files in found.items()}
        scene = _scene(str(path), {name: pixels for name, pixels in pictures.items() if pixels is not None})
        if scene is not None:
            scenes.append(scene)
    return scenes


def sheets(folder: Path, allowed: Callable[[Path], bool]) -> list[Scene]:
    """Pictures that commands leave beside their results, each alone: sheets of comparisons, plots.

    Args:
        folder: of the results.
        allowed: whether a file may be read.
    """
    files = [file for file in sorted(folder.iterdir()) if is_image(file) and allowed(file)]
    pictures = {file.name: _read(file) for file in files[:MOST_SCENES]}
    return [Scene(name, [Layer(name, pixels)]) for name, pixels in pictures.items() if pixels is not None]


def _same(known: Layer, first: Layer, last: Layer) -> bool:
    """Whether a scene begins with the same input, also if another part of it is marked."""
    same = known.role == first.role == "input" and known.pixels.shape == first.pixels.shape == last.pixels.shape
    return same and bool((known.pixels == first.pixels).mean() > 0.95)


def _scene(name: str, pictures: Mapping[str, Pixels]) -> Scene | None:
    """A scene of pictures of one size, that of the target or else of the last; smaller inputs are enlarged."""
    if not pictures:
        return None
    shape = pictures[_TARGET if _TARGET in pictures else list(pictures)[-1]].shape
    roles: dict[str, Literal["input", "target"]] = {_INPUT: "input", _TARGET: "target"}
    layers = []
    for label, pixels in pictures.items():
        fitting = pixels if pixels.shape == shape else _enlarged(pixels, shape)
        if fitting is not None:
            layers.append(Layer(label, fitting, roles.get(label, "variant")))
    return Scene(name, layers)


def _enlarged(pixels: Pixels, shape: Sequence[int]) -> Pixels | None:
    """Every pixel repeated, if the sizes are multiples; None for a picture of something else."""
    if shape[0] % pixels.shape[0] or shape[1] % pixels.shape[1]:
        return None
    return pixels.repeat(shape[0] // pixels.shape[0], 0).repeat(shape[1] // pixels.shape[1], 1)


def _images(folder: Path) -> Iterator[Path]:
    for place in (folder, *sorted(folder.glob("*/"))):
        if place.is_dir():
            yield from (file for file in sorted(place.iterdir()) if is_image(file))


def _read(file: Path) -> Pixels | None:
    try:
        return _shown(read_image(file))
    except (DataError, OSError):
        return None


def _decoded(content: bytes, tag: str) -> Pixels | None:
    try:
        return _shown(decode(content, Path(tag))[0])
    except DataError:
        return None


def _shown(pixels: np.ndarray) -> Pixels | None:
    """As a screen shows them: 8 bits, three channels, without alpha."""
    if pixels.shape[0] * pixels.shape[1] > _LARGEST:
        return None
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        pixels = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
    return convert_channels(pixels, 3)
