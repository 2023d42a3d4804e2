"""Where the checkpoints of runs lie, from the names of files alone."""

import re
from pathlib import Path


def folder_of_run(checkpoint: str | Path) -> Path | None:
    """Return the log folder of the run that a checkpoint is of; None for a file outside of `checkpoints/`."""
    folder = Path(checkpoint).absolute().parent
    return folder.parent if folder.name == "checkpoints" else None


def beside(checkpoint: Path, other: Path) -> Path:
    """Return where another checkpoint of a run is, in its folder or an earlier run's, if all were moved together."""
    elsewhere = Path(*checkpoint.parts[:-3], *other.parts[-3:])
    return elsewhere if elsewhere.is_file() else checkpoint.with_name(other.name)


def step_of(checkpoint: Path) -> float:
    """Return the step in the name of a checkpoint; that of the newest one has none, and comes after all."""
    step = re.search(r"step=(\d+)", checkpoint.name)
    return int(step[1]) if step else float("inf")
