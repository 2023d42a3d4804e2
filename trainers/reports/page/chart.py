"""Charts as geometry: where axes, ticks, lines and points lie in a drawing of fixed size, whose colours are CSS's."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.ticker import LogLocator, MaxNLocator, ScalarFormatter

from trainers.reports.page.content import Chart, Series

WIDTH, HEIGHT = 480, 270
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 10, 40
"""Margins around the area that is drawn in."""
COLOURS = 8
"""Colours that page.css has; further series have those of the first ones, with dashes."""
MOST_POINTS = 1600
"""Points of all series of a chart; more cannot be told apart."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Tick:
    """A mark of an axis: its place in the drawing and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Drawn:
    """A series in the drawing.

    Attributes:
        name: of the series.
        number: of the series on the page, see `Series.colour`.
        colour: of those that page.css has.
        dashed: whether another series may have that colour.
        path: of the line, in SVG's language; empty for points.
        points: in the drawing, each with the value's place in the series; of a line those that stand alone.
    """

    name: str
    number: int
    colour: int
    dashed: bool
    path: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Plot:
    """A chart as it is drawn.

    Attributes:
        chart: what is drawn.
        x_ticks: from left to right.
        y_ticks: from the bottom.
        series: in the chart's order.
        front: path of the front; empty for none.
        values: for the page's script, JSON: the points in values, and how they are placed.
    """

    chart: Chart
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    series: Sequence[Drawn]
    front: str
    values: str


@dataclass(frozen=True)
class Axis:
    """From values to places in the drawing."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool

    def place(self, value: float) -> float:
        """Return the place of a value."""
        value, low, high = (math.log10(each) if self.logarithmic else each for each in (value, self.low, self.high))
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)

    def ticks(self) -> list[Tick]:
        """Return some marks at round values."""
        if self.logarithmic and self.high / self.low >= 10:
            marks = LogLocator(numticks=6).tick_values(self.low, self.high)
        else:
            marks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        inside = [float(mark) for mark in marks if self.low <= mark <= self.high]
        texts = [f"{mark:g}" for mark in inside] if self.logarithmic else _written(inside)
        return [Tick(self.place(mark), text) for mark, text in zip(inside, texts, strict=True)]


def plot(chart: Chart) -> Plot:
    """Place a chart in its drawing.

    Args:
        chart: with one finite point at least, where an axis is logarithmic a positive one.
    """
    kept = [
        Series(series.name, list(_drawable(series.points, chart)), series.colour)
        for series in thinned(chart.series, MOST_POINTS)
    ]
    finite = [point for series in kept for point in series.points if not math.isnan(point[1])]
    of_points = chart.front is not None
    x = _axis([point[0] for point in finite], chart.log_x, LEFT, WIDTH - RIGHT, 0.06 if of_points else 0.0)
    y = _axis([point[1] for point in finite], chart.log_y, HEIGHT - BOTTOM, TOP, 0.08)
    drawn = [_draw(series, x, y, of_points) for series in kept]
    front = "" if not chart.front else _line([(x.place(a), y.place(b)) for a, b in _drawable(chart.front, chart)])
    values = {
        "series": [
            [series.name, series.colour, [[*_rounded(p)] for p in series.points if not math.isnan(p[1])]]
            for series in kept
        ],
        "x": [x.low, x.high, x.start, x.end, chart.log_x],
        "y": [y.low, y.high, y.start, y.end, chart.log_y],
        "points": of_points,
    }
    return Plot(chart, x.ticks(), y.ticks(), drawn, front, json.dumps(values, separators=(",", ":")))


def thinned(every: Sequence[Series], most: int) -> Sequence[Series]:
    """Leave out points, so that a chart has a bounded number; of neighbours the lowest and the highest are kept.

    Args:
        every: series with points in the order of x.
        most: points that are left at most, of all series together.
    """
    each = max(8, most // max(1, len(every)))
    return [Series(one.name, list(_extremes(one.points, each)), one.colour) for one in every]


def _extremes(points: Sequence[Point], most: int) -> Iterator[Point]:
    size = 2 * math.ceil(len(points) / most)
    if len(points) <= most:
        yield from points
        return
    for start in range(0, len(points), size):
        part = [point for point in points[start : start + size] if math.isfinite(point[1])]
        if not part:
            yield points[start][0], math.nan
            continue
        lowest, highest = (choose(part, key=lambda point: point[1]) for choose in (min, max))
        yield from sorted({lowest, highest})


def _drawable(points: Sequence[Point], chart: Chart) -> Iterator[Point]:
    """The points that the axes can hold; NaN stands where a line is interrupted."""
    for x, y in points:
        if not math.isfinite(x) or (chart.log_x and x <= 0):
            continue
        yield x, y if math.isfinite(y) and not (chart.log_y and y <= 0) else math.nan


def _axis(values: Sequence[float], logarithmic: bool, start: float, end: float, margin: float) -> Axis:
    low, high = min(values), max(values)
    if logarithmic:
        margin = (high / low) ** margin if high > low else 1.5
        return Axis(low / margin, high * margin, start, end, True)
    spread = (high - low) * margin if high > low else abs(high) * 0.1 or 1.0
    if high == low or margin:
        low, high = low - spread, high + spread
    return Axis(low, high, start, end, False)


def _draw(series: Series, x: Axis, y: Axis, of_points: bool) -> Drawn:
    places = [(x.place(a), math.nan if math.isnan(b) else y.place(b)) for a, b in series.points]
    dashed = series.colour >= COLOURS
    if of_points:
        return Drawn(
            series.name, series.colour, series.colour % COLOURS, dashed, "", [p for p in places if not math.isnan(p[1])]
        )
    alone = [
        place
        for before, place, after in zip([(0, math.nan), *places], places, [*places[1:], (0, math.nan)], strict=False)
        if not math.isnan(place[1]) and math.isnan(before[1]) and math.isnan(after[1])
    ]
    return Drawn(series.name, series.colour, series.colour % COLOURS, dashed, _line(places), alone)


def _line(places: Sequence[Point]) -> str:
    words, pen = [], "M"
    for a, b in places:
        if math.isnan(b):
            pen = "M"
        else:
            words.append(f"{pen}{a:g} {b:g}")
            pen = "L"
    return "".join(words)


def _rounded(point: Point) -> tuple[float, float]:
    return float(f"{point[0]:.8g}"), float(f"{point[1]:.5g}")


def _written(marks: Sequence[float]) -> list[str]:
    """Texts of an axis's marks, each as long as they need to be told apart."""
    largest = max(map(abs, marks), default=0.0)
    if largest and (largest >= 1e6 or largest < 1e-3):
        return [f"{mark:g}" for mark in marks]
    formatter = ScalarFormatter(useOffset=False)
    formatter.create_dummy_axis()
    formatter.set_locs(list(marks))
    return [formatter(mark) for mark in marks]
