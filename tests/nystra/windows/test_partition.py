"""Feature maps cut into windows and put together again."""

import pytest
import torch

from nystra.windows import Cut


@pytest.mark.parametrize("roll", [(0, 0), (2, 0), (1, 1)])
@pytest.mark.parametrize(("size", "margins"), [((12, 8), (0, 0, 0, 0)), ((9, 7), (2, 1, 1, 0))])
def test_windows_are_cut_out_of_rolled_and_reflected_maps_and_put_back(size, margins, roll):
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
