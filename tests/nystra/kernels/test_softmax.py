"""The exact kernel against attention computed entry by entry."""

import pytest
import torch
from torch.testing import assert_close

from nystra import Softmax, WindowGeometry
from nystra.windows.geometry import MASKED
from tests.nystra.kernels.scenes import HEADS, SCENES, Scene


def explicit_bias(scene: Scene, geometry: WindowGeometry, image_window: tuple[int, int]) -> torch.Tensor:
    """Bias and mask between the tokens of one window, entry by entry."""
    height, width = scene.window
    places = [(row, column) for row in range(height) for column in range(width)]
    result = torch.zeros(HEADS, len(places), len(places), dtype=torch.float64)

    def region(place: tuple[int, int]) -> tuple[bool, bool]:
        return tuple(
            shift > 0 and window == count - 1 and token >= side - shift
            for token, side, shift, window, count in zip(
                place, scene.window, scene.shift, image_window, scene.grid, strict=True
            )
        )

    for i, query in enumerate(places):
        for j, key in enumerate(places):
            if geometry.bias is not None:
                down, right = query[0] - key[0] + height - 1, query[1] - key[1] + width - 1
                result[:, i, j] = geometry.bias.table[down * (2 * width - 1) + right]
            if region(query) != region(key):
                result[:, i, j] += MASKED
    return result


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_softmax_is_explicit_attention_with_bias_and_mask(scene):
    geometry = scene.geometry()
    query, key, value = scene.tokens()
    actual = Softmax()(query, key, value, geometry)
    windows = [(row, column) for row in range(scene.grid[0]) for column in range(scene.grid[1])] * 2
    for index, window in enumerate(windows):
        logits = query[index] @ key[index].transpose(1, 2) + explicit_bias(scene, geometry, window)
        assert_close(actual[index], logits.softmax(2) @ value[index], rtol=1e-10, atol=1e-12)
