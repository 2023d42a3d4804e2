"""Scores of clips: every scored frame by every metric, the change of the error between frames."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from torch import Tensor

from trainers.evaluation.scores import ImageScore
from trainers.metrics.base import PEAK, ImageMetric


def clip_score(
    metrics: Mapping[str, ImageMetric],
    restored: Tensor,
    target: Tensor,
    numbers: Sequence[int],
    *,
    data_set: str,
    name: str,
) -> ImageScore:
    """Measure the frames of a clip one by one; the means over them are the clip's.

    Args:
        metrics: by name.
        restored: shape (T, C, H, W).
        target: same shape.
        numbers: frames that count, at least one.
        data_set: name of the clip's set.
        name: of the clip.

    Raises:
        ValueError: if a metric cannot measure a frame.
    """
    frames: dict[str, list[float]] = {key: [] for key in metrics}
    for number in numbers:
        pair = restored[number : number + 1].to(target), target[number : number + 1]
        for key, metric in metrics.items():
            frames[key].append(metric.measure(*pair).item())
    return ImageScore(data_set, name, {key: fmean(values) for key, values in frames.items()}, frames)


def flicker(restored: Tensor, target: Tensor) -> float:
    """Measure how much the error of a clip changes from frame to frame, in grey levels of 255.

    The root of the mean of (e(t + 1) − e(t))² over all pixels and frames, where e = restored − target: 0 where the
    error stands still, however large it is; √2 times its own strength where it is drawn anew for every frame.

    Args:
        restored: shape (T, C, H, W), T at least 2.
        target: same shape.

    Raises:
        ValueError: if the shapes differ, or there are fewer than two frames.
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
