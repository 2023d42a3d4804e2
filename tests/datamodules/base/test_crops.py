"""Places of crops."""

import pytest

from datamodules.base.crops import Cut


@pytest.mark.parametrize(
    ("size", "cut", "rows", "columns"),
    [
        ((720, 1280), Cut(512, 256), [0, 208], [0, 256, 512, 768]),
        ((1024, 512), Cut(512, 256), [0, 256, 512], [0]),
        ((480, 700), Cut(480, 240), [0], [0, 220]),
    ],
)
def test_the_grid_ends_at_the_edges(size, cut, rows, columns):
    windows = cut.windows(*size, "name")
    assert [(r.start, c.start) for r, c in windows] == [(row, column) for row in rows for column in columns]
    assert all((r.stop - r.start, c.stop - c.start) == (cut.size, cut.size) for r, c in windows)
    # All of GoPro gives as many crops as Restormer is trained on.
    assert size != (720, 1280) or 2103 * len(windows) == 16_824


def test_small_images_are_taken_whole_and_random_places_depend_on_name_and_seed():
    assert Cut(512, 256).windows(300, 600, "x") == [(slice(0, 300), slice(0, 512)), (slice(0, 300), slice(88, 600))]
    random = Cut(8, random=300)
    windows = random.windows(20, 9, "x")
    assert len(windows) == 300
    assert {rows.start for rows, _ in windows} == set(range(13))
    assert {columns.start for _, columns in windows} == {0, 1}
    assert windows == random.windows(20, 9, "x")
    assert windows != random.windows(20, 9, "y")
    assert windows != Cut(8, random=300, seed=1).windows(20, 9, "x")
