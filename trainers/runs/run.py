"""A run's record as it is read: what it is, how far it came, whether it lives."""

import json
import os
import socket
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from trainers.runs.configuration import Configuration

State = Literal["running", "finished", "stopped early", "interrupted", "terminated", "requeued", "failed", "killed"]
NAME = "run.json"
HEARTBEAT_SECONDS = 30.0
"""Seconds between two signs of life in the record."""
DEAD_AFTER_SECONDS = 300.0
"""Seconds without a sign of life after which a run on another machine is taken for dead."""


@dataclass(frozen=True)
class Run:
    """What is known of a run.

    Attributes:
        state: what it last said of itself; "killed" is said by others, of one that is "running" no longer.
        host: name of the machine.
        process: its number there.
        process_start: when that process started, in the system's own unit; None where it does not say.
        job: number of the SLURM job; None elsewhere.
        started: date and time, ISO 8601.
        updated: date and time of the last sign of life.
        step: optimiser steps taken, those before it was resumed included.
        max_steps: where it ends; None: not by steps.
        epoch: epochs ended.
        max_epochs: where it ends; None: not by epochs.
        monitor: name of the score that the best checkpoint is chosen by; None: no such.
        best: that score; None before the first validation.
        best_checkpoint: its file.
        last_checkpoint: the newest file that the run goes on from; None before there is one.
        last_step: optimiser steps taken when that was saved.
        resumed_from: the checkpoint that it goes on from itself; None: from scratch.
        error: first line of what ended it; None if nothing did.
        configuration: what the recipe and the command line came to; None if it was not started from the command line.
    """

    state: State
    host: str
    process: int
    process_start: int | None
    job: str | None
    started: str
    updated: str
    step: int = 0
    max_steps: int | None = None
    epoch: int = 0
    max_epochs: int | None = None
    monitor: str | None = None
    best: float | None = None
    best_checkpoint: str | None = None
    last_checkpoint: str | None = None
    last_step: int | None = None
    resumed_from: str | None = None
    error: str | None = None
    configuration: Configuration | None = None


def read_run(folder: Path) -> Run | None:
    """Read a run's record, and see whether the process that wrote it still lives.

    Args:
        folder: the log folder.

    Returns:
        None if there is no record, or it is of no form that is known.
    """
    try:
        values = json.loads((folder / NAME).read_text())
        run = Run(**{field.name: values[field.name] for field in fields(Run)})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return replace(run, state="killed") if run.state == "running" and not _lives(run) else run


def utc_now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _lives(run: Run) -> bool:
    if run.host != socket.gethostname():
        return (datetime.now(UTC) - datetime.fromisoformat(run.updated)).total_seconds() < DEAD_AFTER_SECONDS
    try:
        os.kill(run.process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # The number may have been given to another process since.
    return process_start(run.process) == run.process_start


def process_start(process: int) -> int | None:
    """When a process started, in ticks since the machine did; None if it has ended."""
    try:
        # The name, in brackets, may hold anything. The start is the 22nd field of all, the 20th after it.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    # A process that nobody has asked about since its end is still listed.
    return None if fields[0] == "Z" else int(fields[19])
