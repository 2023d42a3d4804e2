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
    regions = cut.regions(*size, "name")
    assert [(r.start, c.start) for r, c in regions] == [(row, column) for row in rows for column in columns]
    assert all((r.stop - r.start, c.stop - c.start) == (cut.size, cut.size) for r, c in regions)
    # All of GoPro gives as many crops as Restormer is trained on.
    assert size != (720, 1280) or 2103 * len(regions) == 16_824


def test_small_images_are_taken_whole_and_random_places_depend_on_name_and_seed():
    assert Cut(512, 256).regions(300, 600, "x") == [(slice(0, 300), slice(0, 512)), (slice(0, 300), slice(88, 600))]
    random = Cut(8, random=300)
    regions = random.regions(20, 9, "x")
    assert len(regions) == 300
    assert {rows.start for rows, _ in regions} == set(range(13))
    assert {columns.start for _, columns in regions} == {0, 1}
    assert regions == random.regions(20, 9, "x")
    assert regions != random.regions(20, 9, "y")
    assert regions != Cut(8, random=300, seed=1).regions(20, 9, "x")
