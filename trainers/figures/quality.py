"""Quality against cost: a point for every kernel and size, the Pareto front, and exact attention as lines."""

import math
from collections.abc import Sequence
from dataclasses import asdict

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from trainers.figures.points import Cost, Point, Quality
from trainers.figures.style import Drawing, arrange, colour_of, marker_of, new_figure, plain_logarithmic, styled

_COSTS: dict[Cost, tuple[str, float]] = {
    "seconds": ("seconds", 1.0),
    "macs": ("multiply-adds of the attention, G", 1e-9),
    "bytes": ("memory, MiB", 2.0**-20),
}
_QUALITIES: dict[Quality, str] = {
    "fidelity": "fidelity to exact attention, dB",
    "lost": "lost against exact attention, dB",
    "error": "relative error of the outputs",
    "score": "score",
}
_LESS_IS_BETTER = ("lost", "error")
_LINES = {"exact": "-", "fused": "--", "explicit": ":", "host": "-."}
_NAMES = {"exact": "exact, native", "fused": "exact, torch's fused", "explicit": "exact, explicit", "host": "host"}
# Below a hundredth of a dB, losses and gains are drawn linearly.
_LINEAR_LOSS = 0.01


def draw_quality(
    points: Sequence[Point],
    *,
    cost: Cost = "seconds",
    quality: Quality = "fidelity",
    score: str = "score",
    title: str = "",
) -> Drawing:
    """Draw quality against cost; better is always higher, cheaper always further left.

    Approximations are points, a colour and marker for each family of kernels, with their sizes; those that no other
    one surpasses at no higher cost are joined as the Pareto front. Exact attention is a line at its cost: by this
    package, by torch's fused program, with weights that are written, by the host's own code.

    Args:
        points: those without this cost or this quality are left out.
        cost: the axis to the right, logarithmic.
        quality: the axis upwards.
        score: name and unit of `score`, for the axis.
        title: of the figure.

    Returns:
        The figure and its points; `front` tells which are on it.

    Raises:
        ValueError: if no approximation has both.
    """
    shown = [each for each in points if _placed(each, cost, quality)]
    if not shown:
        raise ValueError(
            f"results must hold a point with {cost} and {quality}, got none among {len(points)}; choose another --cost "
            "or --quality, or give the results that measured them beside"
        )
    front = pareto_front(shown, cost, quality)
    lines = [each for each in points if each.kind in _LINES and getattr(each, cost)]
    heading, factor = _COSTS[cost]
    seconds_small = cost == "seconds" and max(getattr(each, cost) for each in [*shown, *lines]) < 0.1
    if seconds_small:
        heading, factor = "milliseconds", 1e3
    with styled():
        figure = new_figure(4.4)
        axes = figure.subplots()
        places = []
        for number, family in enumerate(dict.fromkeys(each.family for each in shown)):
            mine = [each for each in shown if each.family == family]
            spots = [(getattr(each, cost) * factor, _value(each, quality)) for each in mine]
            axes.plot(*zip(*spots, strict=True), marker_of(number), color=colour_of(number), label=family)
            places += [(spot, each.sizes, colour_of(number)) for spot, each in zip(spots, mine, strict=True)]
        axes.set_xscale("log")
        _scale_quality(axes, quality, [_value(each, quality) for each in shown])
        for each in lines:
            name = _NAMES[each.kind] if each.label == "released" or each.kind != "exact" else each.label
            name = _NAMES["exact"] if each.label == "Softmax()" else name
            at = getattr(each, cost) * factor
            axes.axvline(at, color="#555555", linestyle=_LINES[each.kind], linewidth=1, label=name, zorder=1)
        ends = sorted((getattr(each, cost) * factor, _value(each, quality)) for each in front)
        axes.step(
            *zip(*ends, strict=True), where="post", color="#999999", linewidth=1, zorder=1.5, label="Pareto front"
        )
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() != "linear":
                plain_logarithmic(axis)
        axes.grid(visible=True, which="major")
        axes.set_xlabel(heading)
        axes.set_ylabel(score if quality == "score" else _QUALITIES[quality])
        if title:
            axes.set_title(title)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
        arrange(figure)
        _label(axes, places)
    rows = [{"front": each in front, "family": each.family, **asdict(each)} for each in points]
    return Drawing(figure, rows)


def pareto_front(points: Sequence[Point], cost: Cost, quality: Quality) -> list[Point]:
    """Points that none surpasses: no other is at least as good at no higher cost, and better or cheaper."""
    best, found = -math.inf, []
    sign = -1 if quality in _LESS_IS_BETTER else 1
    for each in sorted(points, key=lambda point: (getattr(point, cost), -sign * getattr(point, quality))):
        if sign * getattr(each, quality) > best:
            best = sign * getattr(each, quality)
            found.append(each)
    return found


def _placed(point: Point, cost: Cost, quality: Quality) -> bool:
    value = getattr(point, quality)
    # Scores of exact attention are points like others; by other measures it is perfect, a line.
    drawn = point.kind in ("approximation", "plan") or quality == "score" or point.label.startswith("window ")
    return drawn and bool(getattr(point, cost)) and value is not None and math.isfinite(value)


def _value(point: Point, quality: Quality) -> float:
    return float(getattr(point, quality))


def _scale_quality(axes: Axes, quality: Quality, values: Sequence[float]) -> None:
    if quality == "error" and min(values) > 0:
        axes.set_yscale("log")
    elif quality == "lost" and max(values) > 0.5:
        axes.set_yscale("symlog", linthresh=_LINEAR_LOSS, linscale=0.5)
    if quality in _LESS_IS_BETTER:
        axes.invert_yaxis()
    axes.margins(x=0.12, y=0.1)


def _label(axes: Axes, places: Sequence[tuple[tuple[float, float], str, str]]) -> None:
    """Write texts beside their points, each where it hides no other one and no point."""
    spots = axes.transData.transform([spot for spot, _, _ in places])
    taken = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in spots]
    for spot, text, colour in places:
        if not text:
            continue
        for x, y, across, up in _AROUND:
            note = axes.annotate(
                text,
                spot,
                textcoords="offset points",
                xytext=(x, y),
                ha=across,
                va=up,
                fontsize=6.5,
                color=colour,
                bbox=_BACKGROUND,
            )
            box = note.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            note.remove()


_BACKGROUND = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.5}
# Where a text may stand: offset in points, and its own alignment. A text without a place is left out; the CSV has it.
_AROUND = [
    (x, y, across, up)
    for distance in (5, 11, 18)
    for x, y, across, up in (
        (distance, 0, "left", "center"),
        (-distance, 0, "right", "center"),
        (0, distance, "center", "bottom"),
        (0, -distance, "center", "top"),
        (distance, distance, "left", "bottom"),
        (distance, -distance, "left", "top"),
        (-distance, distance, "right", "bottom"),
        (-distance, -distance, "right", "top"),
    )
]
