"""Flicker: how much the error of a clip changes from frame to frame."""

from torch import Tensor

from trainers.metrics.base import PEAK


def flicker(restored: Tensor, target: Tensor) -> float:
    """Measure how much the error of a clip changes from frame to frame, in grey levels of 255.

    The root of the mean of (e(t + 1) − e(t))² over all pixels and frames, where e = restored − target: 0 where the
    error stands still, however large it is; √2 times its own strength where it is drawn anew for every frame.

    Args:
        restored: shape (T, C, H, W), T at least 2.
        target: same shape.

    Returns:
        Grey levels, 0 or more.

    Raises:
        ValueError: if the shapes differ, or there are fewer than two frames.

    Examples:
        >>> import torch
        >>> from trainers.metrics import flicker
        >>> target = torch.zeros(2, 1, 8, 8)
        >>> round(flicker(torch.stack([target[0], target[1] + 0.1]), target), 3)
        25.5
    """
    if restored.shape != target.shape or restored.ndim != 4 or len(restored) < 2:
        raise ValueError(
            f"restored {tuple(restored.shape)} and target {tuple(target.shape)} must be clips (T, C, H, W) of one "
            "shape with at least two frames"
        )
    total = 0.0
    for number in range(1, len(restored)):
        later, earlier = (restored[t].double() - target[t].double() for t in (number, number - 1))
        total += (later - earlier).square().mean().item()
    return PEAK * (total / (len(restored) - 1)) ** 0.5
