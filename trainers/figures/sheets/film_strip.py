"""Clips under several variants of a network as one picture: film strips, and a line of pixels through time."""

from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.files.images import to_array
from trainers.figures.sheets.crops import INPUT, TARGET, Scene, wrapped
from trainers.figures.style import Drawing, bare, new_figure, styled
from trainers.metrics.temporal import flicker

# Frames of the strip, evenly spread over the clip.
_FRAMES = 6
_SIDE = 160


def draw_strips(scenes: Sequence[Scene]) -> Drawing:
    """Draw the film strips of clips: a row for the input, for every variant and for the target of each.

    Frames are cut around their middle and evenly spread over the clip. The last picture of a row is the middle line of
    pixels of every frame, one below the other: time runs downwards, what flickers is ragged there.

    Args:
        scenes: clips, whose versions are (T, C, H, W), `INPUT` and `TARGET` among them.

    Returns:
        The figure; in its rows, for each variant of each clip, its flicker in grey levels of 255.
    """
    count = max(len(scene.versions[TARGET]) for scene in scenes)
    columns = min(_FRAMES, count) + 1
    lines = [(scene, name) for scene in scenes for name in scene.versions]
    with styled():
        figure = new_figure(1.35 * len(lines), 1.45 * columns)
        axes = figure.subplots(len(lines), columns, squeeze=False)
        for row, (scene, name) in zip(axes, lines, strict=True):
            target = scene.versions[TARGET]
            numbers = torch.linspace(0, len(target) - 1, min(columns - 1, len(target))).round().long().tolist()
            # More channels than the target's are no picture, such as a map of the noise.
            part = _middle(scene.versions[name][:, : target.shape[1]])
            for axis, number in zip(row, numbers, strict=False):
                axis.imshow(to_array(part[number]), cmap="gray")
            through_time = part[:, :, part.shape[2] // 2].transpose(0, 1)
            row[-1].imshow(to_array(through_time), cmap="gray", aspect="auto", interpolation="nearest")
            row[0].set_ylabel(wrapped(name), fontsize=7)
            if name == INPUT:
                for axis, number in zip(row, numbers, strict=False):
                    axis.set_title(f"frame {number}", fontsize=7)
                row[0].set_title(f"{scene.name}, frame {numbers[0]}", fontsize=7)
                row[-1].set_title("middle row by time", fontsize=7)
        for axis in axes.flat:
            bare(axis)
    rows = [
        {"clip": scene.name, "version": name, "flicker": flicker(clip, scene.versions[TARGET])}
        for scene in scenes
        for name, clip in scene.versions.items()
        if name not in (INPUT, TARGET)
    ]
    return Drawing(figure, rows)


def _middle(clip: Tensor) -> Tensor:
    height, width = clip.shape[-2:]
    top, left = max(0, (height - _SIDE) // 2), max(0, (width - _SIDE) // 2)
    return clip[..., top : top + _SIDE, left : left + _SIDE]
