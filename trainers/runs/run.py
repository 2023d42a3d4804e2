"""A run's record as it is read: configuration, progress, and whether the run's process is alive."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from trainers.runs.configuration import Configuration
from trainers.runs.record_file import ADDED, read_record

State = Literal["running", "finished", "stopped early", "interrupted", "terminated", "requeued", "failed", "killed"]
RUN_FILE = "run.json"
HEARTBEAT_SECONDS = 30.0
"""Seconds between two signs of life in the record."""
DEAD_AFTER_SECONDS = 300.0
"""Seconds without a sign of life after which a run on another machine is taken for dead."""


@dataclass(frozen=True)
class Run:
    """A run as its record describes it.

    Attributes:
        state: the last state that the run wrote; "killed" if that is "running" and its process is not alive.
        host: name of the machine.
        process: number of the process on that machine.
        process_start: start of that process in clock ticks since the machine's; None where the system has no /proc.
        job: number of the SLURM job; None elsewhere.
        started: date and time, ISO 8601.
        updated: date and time of the last sign of life.
        step: optimiser steps taken, including those before the run was resumed.
        max_steps: number of steps at which the run ends; None if steps do not limit it.
        epoch: epochs ended.
        max_epochs: number of epochs at which the run ends; None if epochs do not limit it.
        monitor: name of the score that chooses the best checkpoint; None if no best checkpoint is kept.
        best: best value of that score; None before the first validation.
        best_checkpoint: file of the best checkpoint.
        last_checkpoint: the newest checkpoint from which the run can be resumed; None before there is one.
        last_step: optimiser steps taken when that checkpoint was saved.
        resumed_from: the checkpoint from which the run was resumed; None if it started from scratch.
        error: first line of the error that ended the run; None if none did.
        configuration: values of all options; None if the run was not started from the command line.
        environment: device, number of processes, threads, and versions of libraries by name; None in records of earlier
            versions.
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
    environment: Mapping[str, Any] | None = field(default=None, metadata={ADDED: True})


def read_run(folder: Path) -> Run | None:
    """Read a run's record, and check whether the process that wrote it is alive.

    Args:
        folder: the log folder.

    Returns:
        The record; None if there is none, or none that this version can read.
    """
    try:
        run = Run(**read_record(folder / RUN_FILE, Run))
    except (OSError, ValueError):
        return None
    return replace(run, state="killed") if run.state == "running" and not _lives(run) else run


def utc_now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _lives(run: Run) -> bool:
    if run.host != socket.gethostname():
        return (datetime.now(UTC) - datetime.fromisoformat(run.updated)).total_seconds() < DEAD_AFTER_SECONDS
    if run.process < 1:
        return False
    try:
        os.kill(run.process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    # Another process may have got the number since.
    return process_start(run.process) == run.process_start


def process_start(process: int) -> int | None:
    """Return when a process started, in clock ticks since the machine's start; None if the process has ended."""
    try:
        # The name, in brackets, may hold anything. The start is the 22nd field of all, the 20th after it.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    # A zombie: it has ended, but its parent has not read its exit status.
    return None if fields[0] == "Z" else int(fields[19])
