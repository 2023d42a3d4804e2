"""Errors of the Nyström approximation: measured, bounded, and zero where the rank allows."""

import pytest
import torch
from torch import nn

from nystra.analysis.bounds import nystrom_error, site_bounds
from nystra.kernels.landmark_blocks import BlockTables
from nystra.windows.geometry import WindowKind
from nystra.windows.position_bias import TableBias
from tests.nystra.sites.test_substitution import Attention


def kind(*, biased: bool = True, split=(None, None)) -> WindowKind:
    table = torch.randn(49, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return WindowKind((4, 4), split, TableBias(table, (4, 4)) if biased else None, torch.device("cpu"))


@pytest.mark.parametrize("scale", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("split", [(None, None), (2, 2)])
def test_errors_are_measured_and_bounded(scale, split):
    torch.manual_seed(1)
    query, key = (scale * torch.randn(5, 2, 16, 3, dtype=torch.float64) for _ in range(2))
    for landmarks in (2, 4, 8):
        measured = nystrom_error(query, key, kind(split=split), landmarks)
        assert (measured.error <= measured.bound * (1 + 1e-9)).all()
        assert (measured.next_singular_value <= measured.bound).all()
        # Never better than the best approximation of that rank, which is no worse than the extended kernel's.
        assert (measured.error > 0).all()


def test_the_error_is_that_of_the_explicit_products():
    torch.manual_seed(2)
    query, key = (torch.randn(1, 2, 16, 3, dtype=torch.float64) for _ in range(2))
    place = kind()
    cross, core, marks = (block.exp() for block in BlockTables.of(place, 4, torch.float64).logits(query, key))
    positions = place.positions()
    exact = (query @ key.transpose(2, 3) + place.logits(positions, positions)).exp()
    expected = torch.linalg.matrix_norm(exact - cross @ torch.linalg.solve(core, marks), 2)
    measured = nystrom_error(query, key, place, 4)
    scale = torch.linalg.matrix_norm(exact, 2) / measured.norm
    torch.testing.assert_close(measured.error * scale, expected, rtol=1e-9, atol=1e-12)


def test_recovery_is_exact_where_the_rank_is_the_number_of_landmarks():
    # Keys and queries that are constant in each of four cells: the extended kernel has rank four.
    torch.manual_seed(3)
    rows = torch.arange(16) // 4 // 2 * 2 + torch.arange(16) % 4 // 2
    query, key = (torch.randn(1, 2, 4, 3, dtype=torch.float64)[:, :, rows] for _ in range(2))
    measured = nystrom_error(query, key, kind(biased=False), 4)
    assert (measured.rank == 4).all()
    assert (measured.error < 1e-12 * measured.norm).all()
    assert (nystrom_error(query, key, kind(biased=False), 2).error > 1e-3).all()


def test_sites_of_a_net_are_measured_and_left_as_they_were():
    torch.manual_seed(4)
    net = nn.Sequential(Attention(4, 2), Attention(4, 1))
    kernels = [net[0].kernel, net[1].kernel]
    bounds = site_bounds(net, [torch.randn(1, 8, 8, 8)], landmarks=4)
    assert list(bounds) == ["0", "1"]
    for bound in bounds.values():
        assert 0 < bound.error <= bound.worst
        assert bound.bound >= bound.error
        assert 4 < bound.rank <= 20
    assert [net[0].kernel, net[1].kernel] == kernels
    with pytest.raises(ValueError, match="at least one image"):
        site_bounds(net, [], landmarks=4)
