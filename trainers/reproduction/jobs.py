"""Commands of `lowrank` as a list of jobs: what is done is known by its files, so a list is gone through again."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from trainers.checkpoints.stopping import REQUEUED, TERMINATED
from trainers.errors import Stopped
from trainers.runs.listing import find_runs

METRICS = "metrics.json"
INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended."""
_STOPPED = (INTERRUPTED, TERMINATED, REQUEUED)


@dataclass(frozen=True)
class Job:
    """A command that leaves something in a folder.

    Attributes:
        verb: of `lowrank`.
        folder: where its results lie.
        options: of the verb, by name.
        weights: folder of the training whose checkpoint is `model.pretrained`; None: the options say.
        changes: recipe that is read after that of the options; None: none.
    """

    verb: str
    folder: Path
    options: Mapping[str, str] = field(default_factory=dict)
    weights: Path | None = None
    changes: Path | None = None

    @property
    def arguments(self) -> list[str]:
        """The verb and its options, as they are now: the newest checkpoint of a training is known when it is done."""
        options = dict(self.options)
        if self.weights is not None:
            expected = self.weights / "version_0" / "checkpoints" / "last.ckpt"
            options["model.pretrained"] = str(trained(self.weights) or expected)
        words = [f"--{name}={value}" for name, value in options.items()]
        if self.changes is not None:
            words.insert(1, f"--config={self.changes}")
        return [self.verb, *words]

    @property
    def command(self) -> str:
        """The command as it is typed."""
        return shlex.join(["lowrank", *self.arguments])

    @property
    def done(self) -> bool:
        """Whether its results are there."""
        return trained(self.folder) is not None if self.verb == "fit" else (self.folder / METRICS).is_file()


@dataclass(frozen=True)
class Chain:
    """The jobs that measure a row, in their order.

    Attributes:
        name: of the row.
        jobs: of the row.
        missing: options that must be given before they can be run.
    """

    name: str
    jobs: tuple[Job, ...]
    missing: tuple[str, ...] = ()

    @property
    def trains(self) -> bool:
        """Whether a network is trained."""
        return any(job.verb == "fit" for job in self.jobs)


def trained(folder: Path) -> Path | None:
    """Find the last checkpoint of a finished training in a folder of runs; None if none is finished."""
    if not folder.is_dir():
        return None
    try:
        runs = find_runs([folder])
    except FileNotFoundError:
        return None
    finished = [each.run for each in runs if each.run is not None and each.run.state == "finished"]
    return Path(finished[-1].last_checkpoint) if finished and finished[-1].last_checkpoint else None


def run_jobs(jobs: Iterable[Job]) -> None:
    """Run what is not done yet, one after the other, each in a process of its own.

    Args:
        jobs: in their order. A training that was interrupted goes on where it was.

    Raises:
        Stopped: if a command was interrupted, after it has saved where it was.
        ChildProcessError: if a command failed.
    """
    for job in jobs:
        if job.done:
            continue
        print(job.command, flush=True)
        process = subprocess.Popen([sys.executable, "-m", "trainers", *job.arguments], env=_environment())
        with _signals_of(process):
            ended = process.wait()
        # A command that has not begun yet is ended by the signal itself.
        status = ended if ended >= 0 else 128 - ended
        if status in _STOPPED:
            raise Stopped("the same command goes on with the list", "interrupted", status)
        if status:
            raise ChildProcessError(
                f"command ({job.command}) must end with exit status 0, got {status}: mend what it reports, and run "
                "the list again, which goes on from here"
            )


def _environment() -> dict[str, str]:
    """This process's environment, in which modules are found as here."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@contextmanager
def _signals_of(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave signals to a command, which saves where it is, and wait for its end."""

    def forward(number: int, _: FrameType | None) -> None:
        process.send_signal(number)

    def leave(number: int, frame: FrameType | None) -> None:
        """The terminal tells the command as well."""

    handlers: dict[int, Callable[[int, FrameType | None], None]] = {
        signal.SIGINT: leave,
        signal.SIGTERM: forward,
        signal.SIGUSR1: forward,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
