"""Cells of windows: equal where they can be, else nearly; every token is in one of them."""

import itertools
import math

import pytest
import torch

from nystra.windows.cells import Cells, parts

SIDES = [1, 3, 5, 6, 7, 8, 12, 13, 14]


@pytest.mark.parametrize(("blocks", "cells"), [(1, 4), (4, 16), (16, 16), (16, 64), (7, 49), (13, 13), (32, 32)])
def test_cells_hold_every_token_once(blocks, cells):
    for window in [*itertools.product(SIDES, SIDES), (2, 8, 8), (3, 5, 7), (2, 2, 3, 4), (1, 6, 6), (13,)]:
        layout = Cells.nearest(window, blocks, cells)
        tokens = math.prod(window)
        assert all(number % block == 0 for number, block in zip(layout.cells, layout.blocks, strict=True))
        assert sum(layout.sizes()) == tokens
        assert layout.num_cells == tokens if cells >= tokens else layout.num_cells <= 2 * cells
        numbers = torch.arange(tokens, dtype=torch.float32).view(1, 1, -1, 1)
        ordered = layout.gather(numbers)
        assert torch.equal(layout.scatter(ordered), numbers)
        repeats = layout.repeats(numbers.device)
        assert torch.equal(ordered[0, 0, ~repeats, 0].sort().values, numbers.flatten())
        assert repeats.any() == (not layout.even)
        kept = (~repeats).unflatten(0, (layout.num_cells, -1))
        assert kept.sum(1).tolist() == layout.sizes()
        # Means of what the blocks hold.
        members = (~repeats).float().unflatten(0, (layout.num_blocks, -1))
        means = (ordered.flatten().unflatten(0, (layout.num_blocks, -1)) * members).sum(1) / members.sum(1)
        torch.testing.assert_close(layout.means(numbers).flatten(), means)


@pytest.mark.parametrize(
    ("window", "numbers", "grids"),
    [
        # Divided as ever, also into stripes.
        ((8, 8), (16, 16), ((4, 4), (4, 4))),
        ((8, 8), (2, 64), ((1, 2), (8, 8))),
        ((7, 7), (7, 7), ((1, 7), (1, 7))),
        ((4, 16), (16, 16), ((2, 8), (2, 8))),
        ((6, 6), (12, 12), ((2, 6), (2, 6))),
        # Not divided, but as many.
        ((7, 7), (16, 16), ((4, 4), (4, 4))),
        ((14, 14), (16, 64), ((4, 4), (8, 8))),
        ((1, 53), (16, 16), ((1, 16), (1, 16))),
        # As near as squares can be.
        ((7, 7), (32, 32), ((6, 6), (6, 6))),
        ((11, 11), (5, 5), ((2, 2), (2, 2))),
        # Exact attention.
        ((5, 5), (16, 64), ((5, 5), (5, 5))),
        ((3, 3), (16, 16), ((3, 3), (3, 3))),
        # Over frames: as cubes, or at least not cut in time.
        ((2, 8, 8), (16, 16), ((1, 4, 4), (1, 4, 4))),
        ((2, 8, 8), (16, 32), ((1, 4, 4), (1, 4, 8))),
        ((2, 64, 64), (16, 64), ((1, 4, 4), (1, 8, 8))),
        ((8, 8, 8), (8, 64), ((2, 2, 2), (4, 4, 4))),
        ((53,), (16, 16), ((16,), (16,))),
    ],
)
def test_numbers_are_kept_or_nearly(window, numbers, grids):
    assert Cells.nearest(window, *numbers) == Cells(window, *grids)


@pytest.mark.parametrize(
    "numbers", [(5, 5), (7, 7), (13, 13), (16, 16), (32, 32), (4, 16), (16, 64), (7, 49), (9, 36)], ids=str
)
def test_numbers_of_a_layout_give_it_again(numbers):
    uneven = [(3, 8), (4, 10), (5, 6), (5, 9), (8, 3), (9, 16), (6, 8), (2, 15), (16, 5), (1, 11)]
    for window in [
        *uneven,
        (7, 7),
        (12, 12),
        (2, 5, 4),
        (3, 4, 4),
        (3, 5, 5),
        (5, 3, 4),
        (2, 8, 8),
        (13,),
        (2, 2, 3, 4),
    ]:
        layout = Cells.nearest(window, *numbers)
        assert Cells.nearest(window, layout.num_blocks, layout.num_cells) == layout


def test_parts_differ_by_one():
    for count, number in itertools.product(range(1, 30), range(1, 30)):
        if number <= count:
            begins = parts(count, number)
            sizes = {until - first for first, until in itertools.pairwise(begins)}
            assert begins[0] == 0
            assert begins[-1] == count
            assert sizes <= {count // number, -(-count // number)}
