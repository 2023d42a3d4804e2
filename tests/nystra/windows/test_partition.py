"""Feature maps cut into windows and put together again."""

import torch

from nystra.windows.partition import merge, partition


def test_partition_and_merge_are_inverse():
    features = torch.randn(2, 12, 8, 3)
    windows = partition(features, (4, 2))
    assert windows.shape == (2 * 3 * 4, 8, 3)
    assert torch.equal(windows[1], features[0, :4, 2:4].flatten(0, 1))
    assert torch.equal(merge(windows, (4, 2), (3, 4)), features)
