"""Scores of a fine-tuning on its validation set: exact attention, the start of training, and now."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from datamodules.files.atomic import atomic_file

NAME = "fine_tuning.json"


@dataclass(frozen=True)
class TuningFigures:
    """Means over a validation set: of the exact network, of the substituted one before training, and of the last one.

    Attributes:
        images: number of images that each mean is of.
        exact: metric → mean of the network with exact attention.
        substituted: metric → mean of the substituted network before the first step.
        protocols: metric → protocol.
        now: metric → mean of the last validation; None before the first.
        step: optimiser steps before that validation.
    """

    images: int
    exact: Mapping[str, float]
    substituted: Mapping[str, float]
    protocols: Mapping[str, str]
    now: Mapping[str, float] | None = None
    step: int = 0

    def after(self, now: Mapping[str, float], step: int) -> "TuningFigures":
        """Return these figures with those of a validation.

        Args:
            now: metric → mean.
            step: optimiser steps before the validation.
        """
        return replace(self, now=dict(now), step=step)

    def describe(self) -> str:
        """Return one line with the three means of the first metric."""
        metric = next(iter(self.protocols))
        line = f"val/{metric}: exact {self.exact[metric]:.4g}, substituted {self.substituted[metric]:.4g}"
        if self.now is None:
            return f"{line} ({self.images} images), no validation since"
        return f"{line}, now {self.now[metric]:.4g} ({self.images} images, step {self.step})"

    def state(self) -> dict[str, Any]:
        """Return plain values, from which `TuningFigures(**state)` is made again."""
        return asdict(self)

    def write(self, folder: Path) -> None:
        """Write `fine_tuning.json` into a log folder."""
        with atomic_file(folder / NAME) as file:
            file.write(json.dumps(self.state(), indent=2).encode())
