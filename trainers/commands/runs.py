"""The runs below a folder: the options that differ, progress, scores, and how to go on."""

import json
import os
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from trainers.errors import printable
from trainers.runs.listing import Listed, find_runs, started_at
from trainers.runs.run import Run

SHOWN = 8
"""Options that the list shows of a run."""
INDENT = "    "


def run_runs(folders: Sequence[Path] = (Path("logs"),), json: bool = False) -> None:
    """List runs with their state, steps and best score, the options in which they differ, and how to go on.

    The first run shows all options that are not the same in every run, each other run those unlike the first one's.

    Args:
        folders: folders that are searched for runs, with all folders below them.
        json: print all that is known of each run, as JSON for programs.

    Raises:
        FileNotFoundError: if a folder does not exist, or there are no runs.
    """
    listed = find_runs(folders)
    if json:
        print(_as_json(listed))
        return
    _print(listed)


def _print(listed: Sequence[Listed]) -> None:
    width = shutil.get_terminal_size().columns
    root = Path(os.path.commonpath([each.folder.parent for each in listed]))
    rows = [
        (
            printable(str(each.folder.relative_to(root))),
            each.outcome,
            _steps(each.run),
            _best(each.run),
            f"{datetime.fromtimestamp(started_at(each.folder, each.run)):%Y-%m-%d %H:%M}",
        )
        for each in listed
    ]
    rows.insert(0, ("run", "state", "steps", "best", "began"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    # On a narrow terminal a run's folder gets a line to itself: no name is broken.
    narrow = sum(widths) + 2 * (len(widths) - 1) > width
    separator = f"\n{INDENT}" if narrow else "  "
    print(f"runs in {printable(str(root))}, the oldest first:\n")
    for index, (name, *cells) in enumerate(rows):
        padded = [cell.ljust(size) for cell, size in zip(cells, widths[1:], strict=True)]
        line = "  ".join(padded).rstrip()
        print(f"{name if narrow else name.ljust(widths[0])}{separator}{line}")
        if index:
            each = listed[index - 1]
            for text in (*each.notes, _options(each.differences, listed[0].differences, first=index == 1)):
                _indented(text, width)
    commands = [each.command for each in listed if each.command is not None]
    if commands:
        print("\nto go on:")
        for command in commands:
            # Unbroken, whatever the width, to be copied.
            print(f"{INDENT}{printable(command)}")


def _indented(text: str, width: int) -> None:
    lines = textwrap.wrap(
        text, width, initial_indent=INDENT, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False
    )
    print(*lines, sep="\n", end="\n" if lines else "")


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


def _options(differences: Mapping[str, Any], of_first: Mapping[str, Any], *, first: bool) -> str:
    """The options of the first run that are not the same in all runs; of another run, those unlike the first one's."""
    shown = [
        f"{_short(key)} {value}"
        for key, value in differences.items()
        if first or key not in of_first or of_first[key] != value
    ]
    more = [f"and {len(shown) - SHOWN} more (--json)"] if len(shown) > SHOWN else []
    return ", ".join([*shown[:SHOWN], *more])


def _short(key: str) -> str:
    """The last two words of an option's path, by which it is known well enough."""
    return ".".join(key.split(".")[-2:])


def _steps(run: Run | None) -> str:
    if run is None:
        return ""
    if run.max_steps is None and run.max_epochs is not None:
        return f"{run.step} ({run.epoch} of {run.max_epochs} epochs)"
    return f"{run.step} of {run.max_steps}" if run.max_steps is not None else str(run.step)


def _best(run: Run | None) -> str:
    return "" if run is None or run.best is None else f"{run.monitor} {run.best:.4g}"
