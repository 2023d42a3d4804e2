"""Runs below a folder, and the options in which they differ."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from trainers.checkpoints.folders import folder_of_run, step_of
from trainers.runs.configuration import flatten
from trainers.runs.run import RUN_FILE, Run, read_run

CONFIG = "config.yaml"
NOT_COMPARED = ("ckpt_path", "run.", "trainer.logger.", "trainer.default_root_dir", "weights_only")
"""Beginnings of options that differ between runs of the same experiment."""


@dataclass(frozen=True)
class Listed:
    """A run as it is listed.

    Attributes:
        folder: its log folder.
        run: its record; None if the run keeps no record.
        resumable: the checkpoint to continue from; None if the run is finished, running, or continued already.
        continued_in: the log folder of the run that continues this one; None if no run does.
        differences: option → value, of the options that are not the same in all listed runs.
    """

    folder: Path
    run: Run | None
    resumable: Path | None
    continued_in: Path | None
    differences: dict[str, Any]

    @property
    def outcome(self) -> str:
        """The state in a word or a few."""
        if self.run is None:
            return "record cannot be read" if (self.folder / RUN_FILE).is_file() else "keeps no record"
        return "stopped without a word" if self.run.state == "killed" else self.run.state

    @property
    def notes(self) -> list[str]:
        """What there is to add to the outcome: process, error, successor or checkpoint."""
        notes = []
        if self.run is not None and self.run.state == "running":
            notes.append(f"running ({self.run.host}, process {self.run.process})")
        elif self.run is not None and self.run.error and self.run.state != "killed":
            notes.append(f"{self.run.state}: {self.run.error}")
        if self.continued_in is not None:
            notes.append(f"continued in {self.continued_in.name}")
        elif self.resumable is not None:
            step = self.run.last_step if self.run is not None else None
            notes.append(f"resumable from {self.resumable.name}" + (f" (step {step})" if step is not None else ""))
        return notes

    @property
    def state(self) -> str:
        """Outcome and notes in one line."""
        notes = self.notes
        repeated = bool(notes) and notes[0].startswith((f"{self.outcome}:", f"{self.outcome} ("))
        return "; ".join(notes if repeated else [self.outcome, *notes])

    @property
    def command(self) -> str | None:
        """The command that continues the run; None if it cannot be continued."""
        if self.resumable is None:
            return None
        return shlex.join(["lowrank", "fit", "--config", str(self.folder / CONFIG), "--ckpt_path", str(self.resumable)])


def find_runs(folders: Sequence[Path]) -> list[Listed]:
    """Find the runs of `lowrank fit` below some folders, the oldest first.

    Args:
        folders: folders that are searched with all folders below them.

    Returns:
        One entry for each log folder that holds a record or checkpoints.

    Raises:
        FileNotFoundError: if a folder does not exist, or there are no runs.
    """
    found: dict[Path, Run | None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"folder ({folder}) must exist, got nothing there: name one that runs log to")
        candidates = {path.parent for name in (RUN_FILE, CONFIG) for path in folder.rglob(name)}
        found |= {
            path: read_run(path)
            for path in candidates
            if (path / RUN_FILE).is_file() or any(path.glob("checkpoints/*.ckpt"))
        }
    if not found:
        raise FileNotFoundError(
            f"folders ({', '.join(map(str, folders))}) must hold runs of `lowrank fit`, got none: name others"
        )
    ordered = sorted(sorted(found), key=lambda path: started_at(path, found[path]))
    successors: dict[Path, Path] = {}
    known = {path.resolve() for path in ordered}
    for path in reversed(ordered):
        run = found[path]
        before = folder_of_run(run.resumed_from) if run is not None and run.resumed_from is not None else None
        if run is None or before is None:
            continue
        before = before.resolve()
        if before not in known and before.parent.name == path.resolve().parent.name:
            # Both runs may have been moved together.
            before = path.resolve().with_name(before.name)
        # A run that ended without a checkpoint, its own or a successor's, continues no other run.
        if run.state in ("running", "finished") or newest_last(path) is not None or path.resolve() in successors:
            # Of several successors the newest counts.
            successors.setdefault(before, path)
    options = _differing({path: _options(found[path]) for path in ordered})
    listed = []
    for path in ordered:
        run, successor = found[path], successors.get(path.resolve())
        over = successor is not None or (run is not None and run.state in ("finished", "running"))
        listed.append(Listed(path, run, None if over else newest_last(path), successor, options[path]))
    return listed


def started_at(folder: Path, run: Run | None) -> float:
    """Return when a run started, in seconds since 1970; without a record, the time of the folder's oldest file."""
    if run is not None:
        return datetime.fromisoformat(run.started).timestamp()
    return min(path.lstat().st_mtime for path in folder.iterdir())


def newest_last(folder: Path) -> Path | None:
    """Return the newest `last*.ckpt` of a log folder; None if there is none."""
    found = list(folder.glob("checkpoints/last*.ckpt"))
    return max(found, key=step_of) if found else None


def _options(run: Run | None) -> dict[str, Any]:
    if run is None or run.configuration is None:
        return {}
    return {
        key.replace(".init_args", "").replace(".class_path", ""): value
        for key, value in flatten(run.configuration).items()
        if not key.startswith(NOT_COMPARED)
    }


def _differing(options: Mapping[Path, Mapping[str, Any]]) -> dict[Path, dict[str, Any]]:
    """Keep the options whose values are not the same everywhere."""
    keys = sorted({key for values in options.values() for key in values})
    differing = [key for key in keys if len({repr(values.get(key)) for values in options.values()}) > 1]
    return {path: {key: values[key] for key in differing if key in values} for path, values in options.items()}
