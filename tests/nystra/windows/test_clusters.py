"""Balanced trees put tokens that are alike into one group."""

import torch

from nystra.windows.clusters import balanced_order, inverse, rows, splits


def test_trees_group_what_is_alike():
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(8, 3, generator=generator)
    labels = torch.arange(64).remainder(8)[torch.randperm(64, generator=generator)]
    tokens = (centres[labels] + 0.01 * torch.randn(64, 3, generator=generator)).expand(2, 1, -1, -1)
    for ways in (2, 4):
        order = balanced_order(tokens, 8, ways)
        assert torch.equal(order.sort(2).values, torch.arange(64).expand(2, 1, -1))
        assert (labels[order].unflatten(2, (8, 8)) == labels[order].unflatten(2, (8, 8))[..., :1]).all()
        assert torch.equal(rows(rows(tokens, order), inverse(order)), tokens)
    assert splits(96, 4) == [4, 4, 2, 3]
