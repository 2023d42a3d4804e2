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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": (4, 3)}, r"window \(\(4, 3\)\) must divide the extended maps \(\(8, 8\)\)"),
        ({"window": (4, 4), "margins": (8, 0, 0, 0)}, r"margins \(\(8, 0, 0, 0\)\) must be less than"),
        ({"window": (4, 4), "roll": (2, 2), "margins": (4, 0, 0, 0)}, r"roll \(\(2, 2\)\) must be \(0, 0\)"),
    ],
)
def test_what_is_no_cut_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Cut((8, 8), **options)
