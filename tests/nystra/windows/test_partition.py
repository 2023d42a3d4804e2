"""Feature maps cut into windows and put together again."""

import pytest
import torch

from nystra.windows import Cut


@pytest.mark.parametrize(
    ("size", "roll", "margins"),
    [
        ((12, 8), (0, 0), (0, 0, 0, 0)),
        ((12, 8), (2, 0), (0, 0, 0, 0)),
        ((12, 8), (1, 1), (0, 0, 0, 0)),
        ((9, 7), (0, 0), (2, 1, 1, 0)),
    ],
)
def test_windows_are_cut_out_of_rolled_and_reflected_maps_and_put_back(size, roll, margins):
    features = torch.randn(2, *size, 3)
    cut = Cut(size, (4, 2), roll, margins)
    windows = cut.windows(features)
    assert windows.shape == (2 * 3 * 4, 8, 3)
    rows, columns = (
        [side - 1 - abs(side - 1 - abs(place - before)) for place in range(count)]
        for side, before, count in zip(size, margins[::2], (12, 8), strict=True)
    )
    rows, columns = rows[roll[0] :] + rows[: roll[0]], columns[roll[1] :] + columns[: roll[1]]
    assert torch.equal(windows[1], features[0][rows[:4]][:, columns[2:4]].flatten(0, 1))
    assert torch.equal(windows[-1], features[-1][rows[8:]][:, columns[6:]].flatten(0, 1))
    assert torch.equal(cut.join(windows), features)


@pytest.mark.parametrize("window", [(2, 4, 2), (3, 2, 2), (1, 4, 4)])
@pytest.mark.parametrize("roll", [(0, 0, 0), (1, 2, 1)])
def test_windows_of_films_reach_over_frames(window, roll):
    size = (6, 8, 4)
    cut = Cut(size, window, roll)
    numbers = torch.arange(2 * 6 * 8 * 4).view(2, *size, 1)
    windows = cut.windows(numbers)
    rolled = numbers.roll([-side for side in roll], (1, 2, 3))
    first, last = (
        rolled[image][
            tuple(slice(number * side, (number + 1) * side) for number, side in zip(place, window, strict=True))
        ]
        for image, place in ((0, (0, 0, 1)), (1, tuple(count - 1 for count in cut.grid)))
    )
    assert torch.equal(windows[1].flatten(), first.flatten()) or cut.grid[2] == 1
    assert torch.equal(windows[-1].flatten(), last.flatten())
    assert torch.equal(cut.join(windows), numbers)


def test_films_are_extended_by_reflection_along_every_axis():
    film = torch.arange(4 * 3 * 5).float().view(1, 4, 3, 5, 1)
    cut = Cut((4, 3, 5), (6, 4, 7), margins=(1, 1, 0, 1, 2, 0))
    (window,) = cut.windows(film)
    expected = film[0][[1, 0, 1, 2, 3, 2]][:, [0, 1, 2, 1]][:, :, [2, 1, 0, 1, 2, 3, 4]]
    assert torch.equal(window, expected.flatten(0, 2))
    assert torch.equal(cut.join(window.unsqueeze(0)), film)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": (2, 4, 4)}, r"window \(\(2, 4, 4\)\), roll and margins must have the 2 axes of the maps"),
        ({"window": (4, 3)}, r"window \(\(4, 3\)\) must divide the extended maps \(\(8, 8\)\)"),
        ({"window": (4, 4), "margins": (8, 0, 0, 0)}, r"margins \(\(8, 0, 0, 0\)\) must be less than"),
        ({"window": (4, 4), "roll": (2, 2), "margins": (4, 0, 0, 0)}, r"roll \(\(2, 2\)\) must be \(0, 0\)"),
    ],
)
def test_what_is_no_cut_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Cut((8, 8), **options)
