"""The runs below a folder: what they differ in, how far they came, and how to go on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainers.checkpoints import folder_of_run
from trainers.configuration import flatten
from trainers.run_record import NAME, Run, read_run

CONFIG = "config.yaml"
OF_NO_INTEREST = ("ckpt_path", "run.", "trainer.logger.", "trainer.default_root_dir", "weights_only")
"""Beginnings of options that differ from run to run without making one of another kind."""
SHOWN = 8
"""Differences that the table shows of a run."""


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
    ordered = sorted(found, key=lambda path: _begin(path, found[path]))
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
        if run.state in ("running", "finished") or _last(path) is not None or path.resolve() in successors:
            # Of several the last.
            successors.setdefault(before, path)
    options = _differing({path: _options(found[path]) for path in ordered})
    listed = []
    for path in ordered:
        run, successor = found[path], successors.get(path.resolve())
        over = successor is not None or (run is not None and run.state in ("finished", "running"))
        listed.append(Listed(path, run, None if over else _last(path), successor, options[path]))
    return listed


def run_runs(folders: Sequence[Path] = (Path("logs"),), json: bool = False) -> None:
    """List runs: where they are, what they differ in, how far they came, their best score and their state.

    Args:
        folders: those below these.
        json: print everything that is known, for programs.

    Raises:
        FileNotFoundError: if a folder does not exist, or there are no runs.
    """
    listed = find_runs(folders)
    if json:
        print(_as_json(listed))
        return
    _print(listed)


def _print(listed: Sequence[Listed]) -> None:
    table = Table()
    for title in ("run", "began", "differs in", "steps", "best", "state"):
        # Names are shown whole, on several lines if need be.
        table.add_column(title, overflow="fold")
    for each in listed:
        cells = (
            str(each.folder),
            _time(each),
            _shown(each.differences),
            _steps(each.run),
            _best(each.run),
            each.state,
        )
        # As they are: square brackets would be taken for markup.
        table.add_row(*map(Text, cells))
    console = Console()
    console.print(table)
    commands = [each.command for each in listed if each.command is not None]
    if commands:
        # On lines of their own, whatever the width, to be copied.
        console.print("to go on:")
        for command in commands:
            print(f"  {command}")


def _as_json(listed: Sequence[Listed]) -> str:
    values = [
        {
            "folder": str(each.folder),
            "state": each.state,
            "resumable": None if each.resumable is None else str(each.resumable),
            "continued_in": None if each.continued_in is None else str(each.continued_in),
            "command": each.command,
            "differences": each.differences,
            "run": None if each.run is None else asdict(each.run),
        }
        for each in listed
    ]
    return json.dumps(values, indent=2)


def _begin(folder: Path, run: Run | None) -> float:
    if run is not None:
        return datetime.fromisoformat(run.started).timestamp()
    return min(path.stat().st_mtime for path in folder.iterdir())


def _last(folder: Path) -> Path | None:
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


def _shown(differences: Mapping[str, Any]) -> str:
    lines = [f"{_short(key)} {value}" for key, value in differences.items()]
    return "\n".join(lines[:SHOWN] + ([f"and {len(lines) - SHOWN} more (--json)"] if len(lines) > SHOWN else []))


def _short(key: str) -> str:
    """The last two words of an option's path, which are enough to know it by."""
    return ".".join(key.split(".")[-2:])


def _time(each: Listed) -> str:
    return f"{datetime.fromtimestamp(_begin(each.folder, each.run)):%Y-%m-%d %H:%M}"


def _steps(run: Run | None) -> str:
    if run is None:
        return ""
    if run.max_steps is None and run.max_epochs is not None:
        return f"{run.step} ({run.epoch} of {run.max_epochs} epochs)"
    return f"{run.step} of {run.max_steps}" if run.max_steps is not None else str(run.step)


def _best(run: Run | None) -> str:
    return "" if run is None or run.best is None else f"{run.monitor} {run.best:.4g}"
