"""Where figures come from: weights, seed, versions."""

import math
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

from datamodules.files.images import jpeg_library
from glmha.shared.checkpoint_files import averaged
from glmha.shared.released.download import digest_of
from glmha.shared.released.locate import locate

VERSIONED = ("lowrank-attention", "torch", "lightning", "numpy", "opencv-python-headless")
"""Distributions whose versions change scores: OpenCV decodes JPEG, torch and numpy compute."""
PARTIAL = "partial: images of the benchmark are missing, figures are not comparable with published ones"


def provenance(weights: str | Path | None, seed: int | None) -> dict[str, Any]:
    """Describe where results come from: weights, seed, versions.

    Args:
        weights: file, name or address that the weights came from; None: they were initialised at random.
        seed: of the run; None: none was set.
    """
    source = None
    if weights is not None:
        file = locate(weights)
        source = {"path": str(weights), "sha256": digest_of(file), "ema": averaged(file)}
    return {"weights": source, "seed": seed, "versions": versions()}


def versions() -> dict[str, str]:
    """Versions of the libraries that figures depend on, of Python and of the JPEG decoder."""
    return {name: version(name) for name in VERSIONED} | {"jpeg": jpeg_library(), "python": python_version()}


def share(count: int, whole: int) -> str:
    """How many images of how many, if that is not all of them."""
    return f"{count} of {whole}" if count < whole else str(count)


def current_seed() -> int | None:
    """The seed that Lightning's `seed_everything` set in this process, if it did."""
    value = os.environ.get("PL_GLOBAL_SEED")
    return None if value is None else int(value)


def jsonable(values: Mapping[str, float]) -> dict[str, float | str]:
    """Values for a JSON file: infinity and NaN as strings."""
    # JSON has no infinity (the PSNR of identical images) and no NaN; Python's float() reads these strings back.
    return {name: value if math.isfinite(value) else str(value) for name, value in values.items()}
