"""Charts as geometry: axes, lines with gaps, bounded numbers of points, the ticks' texts."""

import json
import math

import pytest

from trainers.reports.page.chart import BOTTOM, HEIGHT, LEFT, MOST_POINTS, RIGHT, TOP, WIDTH, plot, thinned
from trainers.reports.page.content import Chart, Series


def drawn(points, **options):
    return plot(Chart("t", "x", [Series("s", points)], **options))


def test_a_line_is_interrupted_where_a_value_is_missing_and_a_lone_value_is_a_point():
    nan = math.nan
    result = drawn([(0, 1.0), (1, 2.0), (2, nan), (3, 3.0), (4, math.inf), (5, 1.0), (6, 2.0)])
    (series,) = result.series
    assert series.path.count("M") == 3
    assert len(series.points) == 1
    assert len(json.loads(result.values)["series"][0][2]) == 5


@pytest.mark.parametrize("values", [[1.0, 1.0], [0.0, 0.0], [-3.0, 5e9], [1e-12, 2e-12], [7.0]])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_everything_lies_within_the_axes(values, logarithmic):
    if logarithmic and min(values) <= 0:
        values = [1e-9, 3.0]
    result = drawn(list(enumerate(values)), log_y=logarithmic)
    places = [*result.series[0].points, *_points(result.series[0].path)]
    assert all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT - BOTTOM for x, y in places)
    assert 1 <= len(result.y_ticks) <= 9
    assert len({tick.text for tick in result.y_ticks}) == len(result.y_ticks)


def test_long_curves_are_thinned_and_keep_their_extremes():
    points = [(index, math.sin(index / 50)) for index in range(100_000)]
    points[51_234] = (51_234, 40.0)
    points[70_001] = (70_001, -40.0)
    (series,) = thinned([Series("s", points)], MOST_POINTS)
    assert len(series.points) <= MOST_POINTS
    assert {(51_234, 40.0), (70_001, -40.0)} <= set(series.points)
    assert [x for x, _ in series.points] == sorted(x for x, _ in series.points)


def _points(path):
    return [tuple(map(float, word.split())) for word in path.replace("L", "M").split("M") if word]
