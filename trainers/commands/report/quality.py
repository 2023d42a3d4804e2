"""Charts of quality against cost: a point for each kernel, network or plan, and the front that none surpasses."""

from collections.abc import Mapping, Sequence
from typing import Any

from trainers.commands.report.results import Result
from trainers.figures.points import Cost, Point, Quality, read_points
from trainers.figures.quality import pareto_front
from trainers.reports.page.content import Block, Chart, Charts, Series

_COSTS: dict[Cost, tuple[str, float]] = {
    "seconds": ("seconds an image", 1.0),
    "macs": ("multiply-adds G", 1e-9),
    "bytes": ("memory MiB", 2.0**-20),
}
_QUALITIES: dict[Quality, str] = {"fidelity": "fidelity dB", "error": "relative error"}
_MOST_POINTS = 40


def quality_charts(results: Sequence[Result]) -> list[Block]:
    """Charts of files of results; none of one of which fewer than two lines have a quality and a cost.

    Args:
        results: of comparisons, benchmarks with errors, demonstrations and plans; evaluations are passed over.
    """
    return [block for result in results if not result.evaluation for block in _charts(result)]


def _charts(result: Result) -> list[Block]:
    metric, every = _points(result)
    titles: dict[Quality, str] = {"score": metric, **_QUALITIES}
    pairs: list[tuple[Cost, Quality]] = [(cost, quality) for quality in ("score", "error") for cost in _COSTS]
    pairs.append(("seconds", "fidelity"))
    points = [point for point in every if any(_is_placed(point, *pair) for pair in pairs)][:_MOST_POINTS]
    charts = [_chart(points, cost, quality, titles[quality]) for cost, quality in pairs]
    drawn = [chart for chart in charts if chart is not None]
    if not drawn:
        return []
    legend = [(point.label, number) for number, point in enumerate(points)]
    notes = ["Dashed: the front of those that no other surpasses at the same or a lower cost."]
    return [Charts(drawn, f"{result.name}: quality against cost", legend, notes)]


def _points(result: Result) -> tuple[str, list[Point]]:
    """The name of the score, and the points."""
    protocol = result.content.get("protocol")
    metric = next(iter(protocol)) if isinstance(protocol, Mapping) and protocol else ""
    try:
        points = read_points([result.file])
        if not points and isinstance(protocol, Mapping):
            # Of demonstrations.
            metric = next((name for name in protocol if name.startswith("psnr")), "")
            points = [_measured(label, row, metric) for label, row in result.content["results"].items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Results of another kind, or damaged ones, which the tables tell of.
        return metric, []
    return metric, points


def _measured(label: str, row: Mapping[str, Any], metric: str) -> Point:
    score, seconds, macs, memory = (
        None if row.get(key) is None else float(row[key]) for key in (metric, "image", "macs", "memory")
    )
    return Point(label, score=score, seconds=seconds, macs=macs, bytes=memory)


def _chart(points: Sequence[Point], cost: Cost, quality: Quality, title: str) -> Chart | None:
    name, factor = _COSTS[cost]
    placed = {number: point for number, point in enumerate(points) if _is_placed(point, cost, quality)}
    if len(placed) < 2:
        return None
    series = [Series(point.label, [_place(point, cost, quality, factor)], number) for number, point in placed.items()]
    best = [_place(point, cost, quality, factor) for point in pareto_front(list(placed.values()), cost, quality)]
    values = [getattr(point, cost) for point in placed.values()]
    errors = [getattr(point, quality) for point in placed.values()]
    return Chart(
        f"{title} against {name}",
        name,
        series,
        log_x=max(values) > 5 * min(values),
        log_y=quality == "error" and min(errors) > 0,
        front=best,
    )


def _is_placed(point: Point, cost: Cost, quality: Quality) -> bool:
    price, value = getattr(point, cost), getattr(point, quality)
    return bool(price) and price > 0 and value is not None and abs(value) < float("inf")


def _place(point: Point, cost: Cost, quality: Quality, factor: float) -> tuple[float, float]:
    return getattr(point, cost) * factor, getattr(point, quality)
