"""A clip under several variants of a network as one picture: film strips, and a line of pixels through time."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from torch import Tensor

from datamodules.files.atomic import atomic_file
from datamodules.files.images import to_array

# Frames of the strip, evenly spread over the clip.
_FRAMES = 6
_SIDE = 160


def draw_strip(path: Path, results: dict[str, list[Tensor]], sample: dict[str, Any]) -> None:
    """Write the film strips of the first clip: a row for the input, for every variant and for the target.

    Frames are cut around their middle and evenly spread over the clip. The last picture of a row is the middle line of
    pixels of every frame, one below the other: time runs downwards, what flickers is ragged there.

    Args:
        path: of the PNG file.
        results: variant → restored clips, each (T, C, H, W), of which the first is drawn.
        sample: `input` (T, C, h, w) and `target` (T, C, H, W) of the first clip.
    """
    target = sample["target"]
    rows = {"input": sample["input"][:, : target.shape[1]], **{name: clips[0] for name, clips in results.items()}}
    rows["target"] = target
    count = len(target)
    numbers = [index * (count - 1) // max(1, min(_FRAMES, count) - 1) for index in range(min(_FRAMES, count))]
    with mpl.rc_context({"font.size": 7}):
        figure = Figure(figsize=(1.6 * (len(numbers) + 1), 1.8 * len(rows)), layout="constrained")
        axes = figure.subplots(len(rows), len(numbers) + 1, squeeze=False)
        for row, (name, clip) in zip(axes, rows.items(), strict=True):
            part = _middle(clip)
            for axis, number in zip(row, numbers, strict=False):
                axis.imshow(to_array(part[number]), cmap="gray")
                axis.set_title(f"frame {number}")
            through_time = part[:, :, part.shape[2] // 2].transpose(0, 1)
            row[-1].imshow(to_array(through_time), cmap="gray", aspect="auto", interpolation="nearest")
            row[-1].set_title("middle row by time")
            row[0].set_title(name, loc="left", wrap=True)
        for axis in axes.flat:
            axis.set_axis_off()
        with atomic_file(path) as file:
            figure.savefig(file, dpi=110, format="png")


def _middle(clip: Tensor) -> Tensor:
    height, width = clip.shape[-2:]
    top, left = max(0, (height - _SIDE) // 2), max(0, (width - _SIDE) // 2)
    return clip[..., top : top + _SIDE, left : left + _SIDE]
