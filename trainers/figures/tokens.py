"""Time and memory of attention against tokens (PnP-Nystra, Fig. 3): linear and logarithmic, with the fitted slope."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from trainers.figures.sheets.crops import wrapped
from trainers.figures.style import Drawing, colour_of, marker_of, new_figure, plain_logarithmic, styled


@dataclass(frozen=True)
class Measured:
    """Cost of one window under one kernel.

    Attributes:
        label: of the kernel.
        tokens: N, tokens of the window.
        seconds: of one call for one window.
        bytes: of memory that it takes; None: not measured.
    """

    label: str
    tokens: int
    seconds: float
    bytes: float | None = None


def read_measured(results: Iterable[Path]) -> list[Measured]:
    """Read the results of `bench attention` at several sizes of windows.

    Args:
        results: its JSON files. Time and memory are divided by the number of windows.

    Raises:
        ValueError: if a file is no such result, or channels, heads or position bias differ between them.
        OSError: if one cannot be read.
    """
    found: list[Measured] = []
    shapes: dict[str, Any] = {}
    for path in results:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            shape = {name: content[name] for name in ("heads", "channels", "bias", "device")}
            side, windows = int(content["window"]), int(content["windows"])
            for label, values in content["results"].items():
                memory = values.get("bytes")
                seconds = float(values["seconds"]) / windows
                found.append(Measured(label, side**2, seconds, None if memory is None else float(memory) / windows))
        except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError, RecursionError) as error:
            raise ValueError(f"results ({path}) must be of lowrank bench attention --output: {error!r}") from None
        if shapes and shape != shapes:
            raise ValueError(f"results ({path}) must be of the same attention as the first, {shapes}, got {shape}")
        shapes = shape
    return found


def draw_tokens(measured: Sequence[Measured], *, title: str = "") -> Drawing:
    """Draw time, and memory where it was measured, against the tokens of a window, linearly and logarithmically.

    The legend tells each kernel's slope: the power of the tokens with which time grows, fitted by least squares of the
    logarithms; 1 is linear, 2 quadratic.

    Args:
        measured: of kernels at several sizes; those that were measured at one size only are left out.
        title: of the figure.

    Returns:
        The figure and what was measured, with the slopes of each kernel.

    Raises:
        ValueError: if no kernel was measured at two sizes.
    """
    series = {
        label: sorted((m for m in measured if m.label == label), key=lambda m: m.tokens)
        for label in dict.fromkeys(each.label for each in measured)
    }
    series = {label: points for label, points in series.items() if len({point.tokens for point in points}) > 1}
    if not series:
        raise ValueError(
            f"results must hold a kernel at two numbers of tokens at least, got {len(measured)} measurements: give "
            "those of several windows (lowrank bench attention --window 16, --window 32, …)"
        )
    with_memory = any(point.bytes for points in series.values() for point in points)
    quantities = {
        "seconds": ("milliseconds a window", 1e3),
        **({"bytes": ("MiB a window", 2.0**-20)} if with_memory else {}),
    }
    slopes: dict[str, dict[str, float]] = {label: {} for label in series}
    with styled():
        figure = new_figure(2.9 * len(quantities) + 0.2, 8.5)
        panels = figure.subplots(len(quantities), 2, squeeze=False)
        for (linear, logarithmic), (quantity, (heading, factor)) in zip(panels, quantities.items(), strict=True):
            for number, (label, points) in enumerate(series.items()):
                spots = [(p.tokens, getattr(p, quantity) * factor) for p in points if getattr(p, quantity)]
                if len(spots) < 2:
                    continue
                slope = _slope(spots)
                slopes[label][quantity] = slope
                style = marker_of(number) + ("--" if label.startswith("softmax") else "-")
                for axes in (linear, logarithmic):
                    axes.plot(
                        *zip(*spots, strict=True),
                        style,
                        color=colour_of(number),
                        markersize=4,
                        label=f"{wrapped(label)}: {slope:.2f}".replace("\n", " "),
                    )
            _finish(linear, logarithmic, heading)
            logarithmic.legend(
                title="slope", fontsize=6.5, title_fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False
            )
        if title:
            figure.suptitle(title, fontsize=9)
    rows = [
        {
            "kernel": label,
            "tokens": point.tokens,
            "seconds": point.seconds,
            "bytes": point.bytes,
            **{f"slope of {quantity}": slope for quantity, slope in slopes[label].items()},
        }
        for label, points in series.items()
        for point in points
    ]
    return Drawing(figure, rows)


def _slope(spots: Sequence[tuple[float, float]]) -> float:
    tokens, values = np.log(np.asarray(spots)).T
    return float(np.polyfit(tokens, values, 1)[0])


def _finish(linear: Axes, logarithmic: Axes, heading: str) -> None:
    logarithmic.set_xscale("log")
    logarithmic.set_yscale("log")
    linear.set_ylim(bottom=0)
    linear.set_xlim(left=0)
    for axis in (logarithmic.xaxis, logarithmic.yaxis):
        plain_logarithmic(axis)
    ticks = sorted({float(x) for line in linear.lines for x in np.asarray(line.get_xdata())})
    logarithmic.xaxis.set_minor_locator(NullLocator())
    logarithmic.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    for axes in (linear, logarithmic):
        axes.set_xlabel("tokens of a window")
        axes.set_ylabel(heading)
        axes.grid(visible=True)
