"""Where the checkpoints of runs lie, from the names of files alone."""

from pathlib import Path


def folder_of_run(checkpoint: str | Path) -> Path | None:
    """Return the log folder of the run that a checkpoint is of; None for a file outside of `checkpoints/`."""
    folder = Path(checkpoint).absolute().parent
    return folder.parent if folder.name == "checkpoints" else None


def beside(checkpoint: Path, other: Path) -> Path:
    """Return where another checkpoint of a run is, in its folder or an earlier run's, if all were moved together."""
    elsewhere = Path(*checkpoint.parts[:-3], *other.parts[-3:])
    return elsewhere if elsewhere.is_file() else checkpoint.with_name(other.name)
