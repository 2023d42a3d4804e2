"""Two evaluations of the same images, compared image by image."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Self

from trainers.errors import nearest

# Results that were written before they recorded the direction have no other metrics of which less is better.
_LESS_IS_BETTER = ("mrae", "rmse", "sam")


@dataclass(frozen=True)
class ImageDifference:
    """One image's values in two evaluations.

    Attributes:
        data_set: name of the data set.
        image: name of the image.
        first: the value in the first evaluation.
        second: the value in the second one.
    """

    data_set: str
    image: str
    first: float
    second: float

    @property
    def change(self) -> float:
        """Second less first value, 0 where both are equal, also if they are infinite."""
        return 0.0 if self.first == self.second else self.second - self.first


@dataclass(frozen=True)
class Differences:
    """The values of one metric in two evaluations.

    Attributes:
        metric: name of the metric.
        protocol: what exactly it measures.
        higher_is_better: whether larger values are better.
        images: a pair of values for each image, the largest loss first.
    """

    metric: str
    protocol: str
    higher_is_better: bool
    images: list[ImageDifference]

    @classmethod
    def between(cls, first: Path, second: Path, *, metric: str | None = None, common: bool = False) -> Self:
        """Read the results of two evaluations and pair their images.

        Args:
            first: `metrics.json`, or the folder that holds it.
            second: the same of the other evaluation.
            metric: name of the metric; None: the first one of both.
            common: whether to compare what both have, where their metrics, data sets or images differ.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if a file is no result of an evaluation, `metric` is in none, protocols, data sets or images
                differ (without `common`), or nothing is in both.
        """
        results = [read_evaluation(path) for path in (first, second)]
        metrics = [result["metrics"] for result in results]
        scores = [
            {
                (name, image): row
                for name, values in result["sets"].items()
                for image, row in values["per_image"].items()
            }
            for result in results
        ]
        for what, (one, other) in (("metrics", metrics), ("images", [dict.fromkeys(score) for score in scores])):
            if one != other and not common:
                raise ValueError(
                    f"results ({first} and {second}) must have the same {what}, got {_differing(one, other)}; compare "
                    "what both have with --common true"
                )
        protocols = {key: value for key, value in metrics[0].items() if metrics[1].get(key) == value}
        keys = [key for key in scores[0] if key in scores[1]]
        if not protocols or not keys:
            raise ValueError(
                f"results ({first} and {second}) must share a metric of one protocol and an image, got "
                f"{len(protocols)} metrics and {len(keys)} images in both"
            )
        metric = metric or next(iter(protocols))
        if metric not in protocols:
            raise ValueError(
                f"metric ({metric}) must be one of {', '.join(protocols)}, which both results have"
                f"{nearest(metric, protocols)}"
            )
        higher = results[0].get("higher_is_better", {}).get(metric, not metric.startswith(_LESS_IS_BETTER))
        images = [ImageDifference(*key, *(float(score[key][metric]) for score in scores)) for key in keys]
        images.sort(key=lambda image: image.change, reverse=not higher)
        return cls(metric, protocols[metric], higher, images)

    @property
    def mean(self) -> float:
        """Mean change over the images."""
        return fmean(image.change for image in self.images)

    @property
    def better(self) -> int:
        """Number of images on which the second evaluation is better."""
        return sum(image.change > 0 if self.higher_is_better else image.change < 0 for image in self.images)

    @property
    def worse(self) -> int:
        """Number of images on which the second evaluation is worse."""
        return sum(image.change < 0 if self.higher_is_better else image.change > 0 for image in self.images)


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read the results of an evaluation, and check that they hold every image's values.

    Args:
        path: `metrics.json`, or the folder that holds it.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if it is no result of an evaluation.
    """
    file = path / "metrics.json" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(
            f"results ({path}) must be a metrics.json or a folder that holds one, got none there; evaluate first "
            "(lowrank test, lowrank score)"
        )
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        _require(result["metrics"], str, "metrics")
        _require(result.get("higher_is_better", {}), bool, "higher_is_better")
        for values in result["sets"].values():
            for row in values["per_image"].values():
                _ = {key: float(row[key]) for key in result["metrics"]}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"results ({file}) must be those of lowrank test, validate or score, with every image's values; got "
            f"another file ({type(error).__name__}: {error})"
        ) from error
    return dict(result)


def _require(value: Any, kind: type, name: str) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(inner, kind) for inner in value.values()):
        raise TypeError(f"{name} must map names to {kind.__name__}")


def _differing(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> str:
    for key in [*one, *other]:
        name = "/".join(key) if isinstance(key, tuple) else key
        if key not in one or key not in other:
            return f"{name} in the {'first' if key in one else 'second'} only"
        if one[key] != other[key]:
            return f"{name} as {one[key]} and as {other[key]}"
    return "the same in another order"
