"""Runs below a folder, and what they differ in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from trainers.checkpoints.folders import folder_of_run
from trainers.runs.configuration import flatten
from trainers.runs.run import NAME, Run, read_run

CONFIG = "config.yaml"
OF_NO_INTEREST = ("ckpt_path", "run.", "trainer.logger.", "trainer.default_root_dir", "weights_only")
"""Beginnings of options that differ from run to run without making one of another kind."""


@dataclass(frozen=True)
class Listed:
    """A run as it is listed.

    Attributes:
        folder: its log folder.
        run: its record; None of one that keeps none.
        resumable: the checkpoint that it can be continued from; None if it is finished, running, or continued already.
        continued_in: the log folder of the run that goes on from it; None: no such.
        differences: option → value, of those that are not the same in all runs that are listed.
    """

    folder: Path
    run: Run | None
    resumable: Path | None
    continued_in: Path | None
    differences: dict[str, Any]

    @property
    def state(self) -> str:
        """What became of it, in words."""
        if self.run is None:
            words = "keeps no record"
        elif self.run.state == "killed":
            words = "stopped without a word"
        elif self.run.state == "running":
            words = f"running ({self.run.host}, process {self.run.process})"
        else:
            words = self.run.state + (f": {self.run.error}" if self.run.error else "")
        if self.continued_in is not None:
            return f"{words}; continued in {self.continued_in.name}"
        if self.resumable is not None:
            step = self.run.last_step if self.run is not None else None
            return f"{words}; resumable from {self.resumable.name}" + (f" (step {step})" if step is not None else "")
        return words

    @property
    def command(self) -> str | None:
        """The command that goes on from it."""
        if self.resumable is None:
            return None
        return f"lowrank fit --config {self.folder / CONFIG} --ckpt_path {self.resumable}"


def find_runs(folders: Sequence[Path]) -> list[Listed]:
    """Find the runs of `lowrank fit` below some folders, the oldest first.

    Args:
        folders: each is looked through, however deep.

    Returns:
        Of each log folder with a record, or with checkpoints, one.

    Raises:
        FileNotFoundError: if a folder does not exist, or there are no runs.
    """
    found: dict[Path, Run | None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"folder ({folder}) must exist, got nothing there: name one that runs log to")
        candidates = {path.parent for name in (NAME, CONFIG) for path in folder.rglob(name)}
        found |= {
            path: read_run(path)
            for path in candidates
            if (path / NAME).is_file() or any(path.glob("checkpoints/*.ckpt"))
        }
    if not found:
        raise FileNotFoundError(
            f"folders ({', '.join(map(str, folders))}) must hold runs of `lowrank fit`, got none: name others"
        )
    ordered = sorted(found, key=lambda path: started_at(path, found[path]))
    successors: dict[Path, Path] = {}
    known = {path.resolve() for path in ordered}
    for path in reversed(ordered):
        run = found[path]
        before = folder_of_run(run.resumed_from) if run is not None and run.resumed_from is not None else None
        if run is None or before is None:
            continue
        before = before.resolve()
        if before not in known and before.parent.name == path.resolve().parent.name:
            # Both may have been moved since.
            before = path.resolve().with_name(before.name)
        # One that ended before it had anything to go on from, in itself or in a later one, has taken nobody's place.
        if run.state in ("running", "finished") or newest_last(path) is not None or path.resolve() in successors:
            # Of several the last.
            successors.setdefault(before, path)
    options = _differing({path: _options(found[path]) for path in ordered})
    listed = []
    for path in ordered:
        run, successor = found[path], successors.get(path.resolve())
        over = successor is not None or (run is not None and run.state in ("finished", "running"))
        listed.append(Listed(path, run, None if over else newest_last(path), successor, options[path]))
    return listed


def started_at(folder: Path, run: Run | None) -> float:
    """When a run started, in seconds since 1970; of a folder without a record, its oldest file's time."""
    if run is not None:
        return datetime.fromisoformat(run.started).timestamp()
    return min(path.stat().st_mtime for path in folder.iterdir())


def newest_last(folder: Path) -> Path | None:
    """The newest `last*.ckpt` of a log folder; None if there is none."""
    found = list(folder.glob("checkpoints/last*.ckpt"))
    return max(found, key=lambda path: path.stat().st_mtime) if found else None


def _options(run: Run | None) -> dict[str, Any]:
    if run is None or run.configuration is None:
        return {}
    return {
        key.replace(".init_args", "").replace(".class_path", ""): value
        for key, value in flatten(run.configuration).items()
        if not key.startswith(OF_NO_INTEREST)
    }


def _differing(options: Mapping[Path, Mapping[str, Any]]) -> dict[Path, dict[str, Any]]:
    """Keep the options whose values are not the same everywhere."""
    keys = sorted({key for values in options.values() for key in values})
    differing = [key for key in keys if len({repr(values.get(key)) for values in options.values()}) > 1]
    return {path: {key: values[key] for key in differing if key in values} for path, values in options.items()}
