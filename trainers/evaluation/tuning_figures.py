"""Scores of a fine-tuning on images of its validation sets: exact attention, the start of training, and now."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from datamodules.files.atomic import atomic_file
from trainers.evaluation.scores import Evaluation, ImageScore

FIGURES_FILE = "fine_tuning.json"


@dataclass(frozen=True)
class TuningFigures:
    """Means over the same images: of the exact network, of the substituted one before training, and of the last one.

    Attributes:
        images: `set/name` of each image.
        exact: metric → mean of the network with exact attention, as validation averages.
        substituted: metric → mean of the substituted network before the first step.
        protocols: metric → protocol.
        now: metric → mean of the last validation; None before the first.
        step: optimiser steps before that validation.
    """

    images: Sequence[str]
    exact: Mapping[str, float]
    substituted: Mapping[str, float]
    protocols: Mapping[str, str]
    now: Mapping[str, float] | None = None
    step: int = 0

    @classmethod
    def of_start(cls, exact: Evaluation, substituted: Evaluation) -> "TuningFigures":
        """Make the figures of the start from evaluations of the same images."""
        names = [_name(score) for score in substituted.scores]
        return cls(names, exact.average(), substituted.average(), dict(substituted.protocols))

    def after(self, validation: Evaluation, step: int) -> "TuningFigures":
        """Return these figures with those of a validation, on the images of the start.

        Args:
            validation: of these images and perhaps of others; one without some of these changes nothing.
            step: optimiser steps before the validation.
        """
        scores = [score for score in validation.scores if _name(score) in self.images]
        if len(scores) < len(self.images):
            return self
        return replace(self, now=replace(validation, scores=scores).average(), step=step)

    def describe(self) -> str:
        """Return one line with the three means of the first metric."""
        metric = next(iter(self.protocols))
        number = f"{len(self.images)} image{'s' if len(self.images) > 1 else ''}"
        line = f"val/{metric}: exact {self.exact[metric]:.4g}, substituted {self.substituted[metric]:.4g}"
        if self.now is None:
            return f"{line} ({number}), no validation since"
        return f"{line}, now {self.now[metric]:.4g} ({number}, step {self.step})"

    def state(self) -> dict[str, Any]:
        """Return plain values, from which `TuningFigures(**state)` is made again."""
        return asdict(self)

    def write(self, folder: Path) -> None:
        """Write `fine_tuning.json` into a log folder."""
        with atomic_file(folder / FIGURES_FILE) as file:
            file.write(json.dumps(self.state(), indent=2).encode())


def _name(score: ImageScore) -> str:
    return f"{score.data_set}/{score.image}"
