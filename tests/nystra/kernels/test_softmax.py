"""The exact kernel against attention computed entry by entry."""

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from nystra import Softmax, WindowGeometry
from nystra.windows.geometry import MASKED
from tests.nystra.kernels.scenes import HEADS, SCENES, Scene


def explicit_bias(scene: Scene, geometry: WindowGeometry, image_window: tuple[int, ...]) -> torch.Tensor:
    """Bias and mask between the tokens of one window, entry by entry."""
    places = list(itertools.product(*map(range, scene.window)))
    result = torch.zeros(HEADS, len(places), len(places), dtype=torch.float64)

    def region(place: tuple[int, ...]) -> tuple[bool, ...]:
        return tuple(
            shift > 0 and window == count - 1 and token >= side - shift
            for token, side, shift, window, count in zip(
                place, scene.window, geometry.shift, image_window, scene.grid, strict=True
            )
        )

    for i, query in enumerate(places):
        for j, key in enumerate(places):
            if geometry.bias is not None:
                number = 0
                for at, other, side in zip(query, key, scene.window, strict=True):
                    number = number * (2 * side - 1) + at - other + side - 1
                result[:, i, j] = geometry.bias.table[number]
            if region(query) != region(key):
                result[:, i, j] += MASKED
    return result


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_softmax_is_explicit_attention_with_bias_and_mask(scene):
    geometry = scene.geometry()
    query, key, value = scene.tokens()
    actual = Softmax()(query, key, value, geometry)
    windows = list(itertools.product(*map(range, scene.grid))) * 2
    for index, window in enumerate(windows):
        logits = query[index] @ key[index].transpose(1, 2) + explicit_bias(scene, geometry, window)
        assert_close(actual[index], logits.softmax(2) @ value[index], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("scene", SCENES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_bias_too_large_to_be_laid_out_at_once_enters_piece_by_piece(scene, dtype, monkeypatch):
    geometry, inputs = scene.geometry(dtype), scene.tokens(dtype)
    with torch.inference_mode():
        whole = Softmax()(*inputs, geometry)
        # An eighth of it is that of a few queries.
        monkeypatch.setattr("nystra.kernels.softmax.LARGEST_BIAS", 8 * HEADS * 5 * math.prod(scene.window) * 4)
        assert_close(Softmax()(*inputs, scene.geometry(dtype)), whole, rtol=1e-5, atol=1e-5)
