"""Position bias between and beyond the offsets of its table."""

import contextlib
import dataclasses
import math

import pytest
import torch

from nystra import ContentPooling, LandmarkPooling, Softmax
from nystra.programs.operators import plain_torch
from nystra.windows import WindowGeometry, WindowKind
from nystra.windows.position_bias import DenseBias, TableBias


def test_a_bias_between_offsets_is_interpolated_and_beyond_them_held():
    table = torch.arange(15, dtype=torch.float64).unsqueeze(1)  # (2·2 - 1)·(2·3 - 1)
    bias = TableBias(table, (2, 3))
    at = bias.at(torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, -0.25], [9.0, 9.0], [-1.0, -2.0]]))
    assert at.tolist() == [[7.0, 9.5, 6.75, 14.0, 0.0]]
    stretched = TableBias(table, (2, 3), (0.5, 0.5)).at(torch.tensor([[2.0, 4.0]]))
    assert stretched.tolist() == [[14.0]]


def test_a_bias_over_frames_is_interpolated_along_every_axis():
    table = torch.randn(3, 5, 3, dtype=torch.float64)
    bias = TableBias(table.view(-1, 1), (2, 3, 2))
    at = bias.at(torch.tensor([[1.0, -2.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.25, -0.5]]))
    between = 0.5 * (0.75 * table[1, 2, :2] + 0.25 * table[1, 3, :2]).sum()
    expected = torch.stack([table[2, 0, 1], (table[1, 2, 1] + table[2, 2, 1]) / 2, between])
    torch.testing.assert_close(at[0], expected)


@pytest.mark.parametrize("window", [(4, 4), (2, 8), (3, 5), (2, 3, 2)])
def test_a_table_laid_out_is_the_same_bias(window):
    offsets = math.prod(2 * side - 1 for side in window)
    table = TableBias(torch.randn(offsets, 3, dtype=torch.float64), window)
    kind = WindowKind(window, (None,) * (len(window) - 1) + (1,), table, torch.device("cpu"))
    dense = DenseBias(dataclasses.replace(kind, split=(None,) * len(window)).all_logits(), window)
    other = dataclasses.replace(kind, bias=dense)
    torch.testing.assert_close(other.all_logits(), kind.all_logits())
    centres = kind.positions()[:-1] + 0.0
    torch.testing.assert_close(other.logits(centres, kind.positions()), kind.logits(centres, kind.positions()))


def test_a_bias_of_pairs_is_interpolated_between_tokens():
    dense = DenseBias(torch.randn(2, 6, 6, dtype=torch.float64), (2, 3))
    middle = dense.between(torch.tensor([[0.5, 1.0]]), torch.tensor([[1.0, 1.5]]))
    expected = dense.dense[:, [1, 4]].mean(1)[:, [4, 5]].mean(1)
    torch.testing.assert_close(middle.flatten(), expected)


@pytest.mark.parametrize(
    "kernel", [Softmax(), LandmarkPooling(16, 16, "own"), ContentPooling(4, 16, 16), ContentPooling(4, 16, 3)], ids=str
)
@pytest.mark.parametrize("native", [True, False])
def test_kernels_take_a_bias_of_pairs(kernel, native):
    window = (4, 4) if native else (2, 8)
    query, key, value = torch.randn(3, 2, 3, 16, 5)
    dense = torch.randn(3, 16, 16)
    context = contextlib.nullcontext() if native else plain_torch()
    with context:
        attended = kernel(query, key, value, WindowGeometry(window, bias=DenseBias(dense, window)))
    expected = (query @ key.mT + dense).softmax(-1) @ value
    exact = kernel != ContentPooling(4, 16, 3)
    assert ((attended - expected).norm() / expected.norm()) < (1e-5 if exact else 0.5)
