"""Position bias between and beyond the offsets of its table."""

import torch

from nystra.windows.position_bias import TableBias


def test_a_bias_between_offsets_is_interpolated_and_beyond_them_held():
    table = torch.arange(15, dtype=torch.float64).unsqueeze(1)  # (2·2 - 1)·(2·3 - 1)
    bias = TableBias(table, (2, 3))
    at = bias.at(torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, -0.25], [9.0, 9.0], [-1.0, -2.0]]))
    assert at.tolist() == [[7.0, 9.5, 6.75, 14.0, 0.0]]
    stretched = TableBias(table, (2, 3), (0.5, 0.5)).at(torch.tensor([[2.0, 4.0]]))
    assert stretched.tolist() == [[14.0]]
