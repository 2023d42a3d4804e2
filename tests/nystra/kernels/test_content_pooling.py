"""Content pooling: a position bias of any rank, and clusters where content is strewn over the window."""

import contextlib

import pytest
import torch
from torch.testing import assert_close

from nystra import ContentPooling, LandmarkPooling, Softmax, WindowGeometry
from nystra.programs.operators import plain_torch
from nystra.windows.position_bias import TableBias
from tests.nystra.kernels.scenes import CHANNELS, HEADS, Scene


@pytest.mark.parametrize("table", ["none", "rows", "one head"])
def test_content_pooling_takes_a_bias_of_any_rank(table):
    scene = Scene(biased=True)
    bias = torch.zeros(225, HEADS)
    if table == "rows":
        bias += torch.arange(15.0).repeat_interleave(15).unsqueeze(1) / 15
    elif table == "one head":
        bias[:, 0] = torch.randn(225, generator=torch.Generator().manual_seed(0))
    inputs = scene.tokens(torch.float32)
    geometry = WindowGeometry(scene.window, scene.grid, bias=TableBias(bias, scene.window))
    exact = Softmax()(*inputs, geometry)
    # Nothing near: summaries of single tokens with a bias of full rank, 64 for one of noise.
    assert_close(ContentPooling(4, 64, 0, bias_rank=64)(*inputs, geometry), exact, rtol=1e-4, atol=1e-4)
    assert ContentPooling(4, 4, 1, bias_rank=8)(*inputs, geometry).isfinite().all()


@pytest.mark.parametrize("natively", [False, True])
@pytest.mark.parametrize("decay", [0.3, 1, 3])
def test_content_pooling_takes_a_bias_that_is_sharp(decay, natively):
    """A bias that falls with distance has no small rank: without it in near cells, errors are five times as large."""
    generator = torch.Generator().manual_seed(0)
    offsets = torch.cartesian_prod(torch.arange(-15, 16.0), torch.arange(-15, 16.0))
    table = TableBias((-decay * offsets.norm(dim=1)).unsqueeze(1), (16, 16))
    geometry = WindowGeometry((16, 16), bias=table)
    inputs = [0.3 * torch.randn(2, 1, 256, CHANNELS, generator=generator) for _ in range(2)]
    inputs.append(torch.randn(2, 1, 256, CHANNELS, generator=generator))
    exact = Softmax()(*inputs, geometry)
    with contextlib.nullcontext() if natively else plain_torch():
        given = ContentPooling(16, 64, 16)(*inputs, geometry)
    assert (given - exact).norm() < 0.1 * exact.norm()


def test_clusters_do_not_depend_on_how_a_bias_is_factorised():
    scene = Scene()
    kernel = ContentPooling(4, 8, 0)
    inputs = scene.tokens()
    ((_, kind),) = scene.geometry().kinds(torch.device("cpu"))
    tables = kernel.tables(kind, torch.float64)
    expected = kernel.attend(*inputs, tables)
    further = tables.further._replace(query=16 * tables.further.query, key=tables.further.key / 16)
    other = tables._replace(further=further)
    assert_close(kernel.attend(*inputs, other), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("table", ["nothing", "steps", "slopes", "noise"])
def test_a_large_bias_is_factorised_as_well_as_by_all_its_singular_vectors(table):
    offsets = torch.cartesian_prod(torch.arange(-15, 16.0), torch.arange(-15, 16.0))
    values = {
        "nothing": torch.zeros(len(offsets)),
        "steps": (offsets[:, 0] > 0).float(),
        "slopes": -offsets.norm(dim=1),
        "noise": torch.randn(len(offsets), generator=torch.Generator().manual_seed(0)),
    }
    geometry = WindowGeometry((16, 16), bias=TableBias(values[table].unsqueeze(1), (16, 16)))
    ((_, kind),) = geometry.kinds(torch.device("cpu"))
    bias = kind.all_logits()
    further = ContentPooling(bias_rank=16).tables(kind, torch.float32).further
    left = (bias - further.query @ further.key.mT).norm()
    assert left <= 1.01 * torch.linalg.svdvals(bias)[:, 16:].norm() + 1e-3


def test_content_pooling_follows_content_where_there_is_no_bias():
    """Tokens of few kinds, strewn over the window: clusters find them, cells by position cannot."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(16, (1, 1, 256), generator=generator)
    query, key, value = (
        torch.randn(16, CHANNELS, generator=generator)[kinds]
        + 0.1 * torch.randn(1, 1, 256, CHANNELS, generator=generator)
        for _ in range(3)
    )
    geometry = WindowGeometry((16, 16))
    exact = Softmax()(query, key, value, geometry)
    errors = [
        (kernel(query, key, value, geometry) - exact).norm() / exact.norm()
        for kernel in (ContentPooling(16, 16, 2), LandmarkPooling(16, 16, "cross"))
    ]
    assert errors[0] < 0.3 * errors[1]


@pytest.mark.parametrize(
    ("window", "sizes"),
    [
        ((8, 8), (16, 16, 4)),
        ((4, 16), (16, 16, 4)),
        ((16, 16), (16, 32, 4)),
        ((32, 32), (16, 64, 8)),
        ((64, 64), (16, 128, 4)),
        ((128, 128), (16, 128, 1)),
        ((256, 256), (16, 512, 1)),
        ((6, 6), (16, 12, 5)),
        ((7, 7), (16, 16, 5)),
        ((13, 13), (16, 32, 4)),
        ((14, 14), (16, 28, 4)),
        ((2, 3), (6, 4, 4)),
    ],
)
def test_sizes_follow_the_window(window, sizes):
    assert ContentPooling().fitted(window) == ContentPooling(*sizes)
    assert ContentPooling().cost(window, 8) == ContentPooling(*sizes).cost(window, 8)


@pytest.mark.parametrize("natively", [False, True])
@pytest.mark.parametrize("given", [{}, {"landmarks": 4}, {"cells": 12}, {"near": 1}, {"cells": 4, "near": 4}], ids=str)
def test_sizes_that_are_given_stay(given, natively):
    inputs = Scene(window=(4, 6)).tokens(torch.float32)
    geometry = Scene(window=(4, 6)).geometry(torch.float32)
    chosen = {"landmarks": 16, "cells": 8} | given
    chosen = {"near": round(16 / 24 * chosen["cells"])} | chosen
    with contextlib.nullcontext() if natively else plain_torch():
        assert_close(ContentPooling(**given)(*inputs, geometry), ContentPooling(**chosen)(*inputs, geometry))
