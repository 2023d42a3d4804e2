"""Scores of clips: every scored frame by every metric."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from torch import Tensor

from trainers.evaluation.scores import ImageScore
from trainers.metrics.base import ImageMetric


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
