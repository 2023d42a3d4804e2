"""The runs below a folder: what they differ in, how far they came, and how to go on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainers.runs.listing import Listed, find_runs, started_at
from trainers.runs.run import Run

SHOWN = 8
"""Differences that the table shows of a run."""


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


def _shown(differences: Mapping[str, Any]) -> str:
    lines = [f"{_short(key)} {value}" for key, value in differences.items()]
    return "\n".join(lines[:SHOWN] + ([f"and {len(lines) - SHOWN} more (--json)"] if len(lines) > SHOWN else []))


def _short(key: str) -> str:
    """The last two words of an option's path, which are enough to know it by."""
    return ".".join(key.split(".")[-2:])


def _time(each: Listed) -> str:
    return f"{datetime.fromtimestamp(started_at(each.folder, each.run)):%Y-%m-%d %H:%M}"


def _steps(run: Run | None) -> str:
    if run is None:
        return ""
    if run.max_steps is None and run.max_epochs is not None:
        return f"{run.step} ({run.epoch} of {run.max_epochs} epochs)"
    return f"{run.step} of {run.max_steps}" if run.max_steps is not None else str(run.step)


def _best(run: Run | None) -> str:
    return "" if run is None or run.best is None else f"{run.monitor} {run.best:.4g}"
