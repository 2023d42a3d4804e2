"""Partition of a feature map into windows of tokens, and the inverse."""

from __future__ import annotations

from torch import Tensor


def partition(features: Tensor, window: tuple[int, int]) -> Tensor:
    """Cut features (B, H, W, C), H and W multiples of the window's sides, into windows (B·R·S, N, C)."""
    rows, columns = features.shape[1] // window[0], features.shape[2] // window[1]
    cut = features.unflatten(2, (columns, window[1])).unflatten(1, (rows, window[0]))
    return cut.transpose(2, 3).flatten(0, 2).flatten(1, 2)


def merge(windows: Tensor, window: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Put windows (B·R·S, N, C) together again: (B, H, W, C). The inverse of `partition`."""
    cut = windows.unflatten(1, window).unflatten(0, (-1, *grid))
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)
