"""Geometry of windows: logits of all pairs of tokens, and tables that are kept as long as they hold."""

import pytest
import torch
from torch.testing import assert_close

from nystra import LandmarkPooling, Softmax, WindowGeometry
from nystra.windows.geometry import WindowKind
from nystra.windows.position_bias import TableBias
from tests.nystra.kernels.scenes import HEADS, Scene


@pytest.mark.parametrize("stretch", [(1.0, 1.0), (0.6, 1.3)])
@pytest.mark.parametrize("split", [(None, None), (2, None), (1, 4)])
def test_all_logits_are_those_of_every_pair(split, stretch):
    table = torch.randn(9 * 11, HEADS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kind = WindowKind((3, 7), split, TableBias(table.requires_grad_(), (5, 6), stretch), torch.device("cpu"))
    positions = kind.positions()
    every, pairs = kind.all_logits(), kind.logits(positions, positions)
    assert every.is_contiguous()
    assert_close(every, pairs, rtol=0, atol=1e-6)
    weights = torch.randn(pairs.shape, generator=torch.Generator().manual_seed(1), dtype=pairs.dtype)
    gradients = [torch.autograd.grad((result * weights).sum(), table)[0] for result in (every, pairs)]
    assert_close(*gradients, rtol=1e-5, atol=1e-5)


def test_tables_are_made_once_and_again_when_the_bias_changes():
    scene = Scene()
    geometry = scene.geometry()
    tables: dict = {}
    geometry = WindowGeometry(scene.window, scene.grid, scene.shift, geometry.bias, tables)
    inputs = scene.tokens()
    first = LandmarkPooling()(*inputs, geometry)
    (made,) = tables.values()
    assert torch.equal(LandmarkPooling()(*inputs, geometry), first)
    assert next(iter(tables.values()))[1] is made[1]
    geometry.bias.table.mul_(2)
    assert not torch.equal(LandmarkPooling()(*inputs, geometry), first)
    assert len(tables) == 1


def test_a_table_too_large_to_keep_is_made_anew(monkeypatch):
    scene = Scene()
    geometry = scene.geometry()
    inputs = scene.tokens()
    kept = Softmax()(*inputs, geometry)
    assert geometry._tables
    geometry._tables.clear()
    monkeypatch.setattr("nystra.windows.geometry.LARGEST_KEPT", HEADS * 64**2 * 8 - 1)
    assert torch.equal(Softmax()(*inputs, geometry), kept)
    assert not geometry._tables
