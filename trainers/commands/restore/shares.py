"""Images and clips shared out among processes, of one machine or of many, and one summary of what they did."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from datamodules.errors import DataError
from datamodules.files.atomic import atomic_file

# Variables of launchers: number of this process, of all, and number among those of its machine; each launcher's own.
_LAUNCHERS = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    # Of srun: a batch script outside it has SLURM_NTASKS, but is alone.
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
)
_ARRAY = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP", "SLURM_ARRAY_TASK_COUNT")
FOLDER = ".restored-shares"
"""Hidden folder in `output` in which processes leave what they did until the last has finished."""


@dataclass(frozen=True)
class Share:
    """The part of all images that one process restores: by their results' names, so that no process asks another.

    Attributes:
        number: of this share, from 0.
        count: of shares.
        local: number of this process among those of its machine, by which it chooses a device; None: it is alone there.
    """

    number: int = 0
    count: int = 1
    local: int | None = None

    def takes(self, name: str) -> bool:
        """Whether an image is of this share.

        Args:
            name: of its result below the output folder.
        """
        digest = hashlib.blake2b(os.fsencode(name), digest_size=8).digest()
        return int.from_bytes(digest) % self.count == self.number

    def device(self, name: str) -> str:
        """The device of this process, where the machine has several.

        Args:
            name: as asked for.
        """
        several = name in ("auto", "cuda") and torch.cuda.is_available()
        return name if self.local is None or not several else f"cuda:{self.local % torch.cuda.device_count()}"


@dataclass
class Tally:
    """What became of images.

    Attributes:
        restored: their number.
        kept: number of those that had a result already.
        failed: number of those that could not be restored.
        messages: of the first that could not.
    """

    restored: int = 0
    kept: int = 0
    failed: int = 0
    messages: list[str] = field(default_factory=list)

    def told(self) -> str:
        """The numbers in words."""
        return f"{self.restored} restored, {self.kept} kept, {self.failed} failed"


def find_share(given: str | None, environment: Mapping[str, str] = os.environ) -> Share:
    """Find which share of the images is this process's.

    Args:
        given: K/N, the K-th of N shares; None: as torchrun, srun or an array of SLURM jobs tells, else all of them.
        environment: variables of the process.

    Raises:
        ValueError: if `given` is no such share.
    """
    if given is not None:
        match = re.fullmatch(r"(\d+)/(\d+)", given)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ValueError(f"share ({given}) must be K/N with 1 <= K <= N, such as 2/8, the second of eight shares")
        return Share(int(match[1]) - 1, int(match[2]))
    try:
        number, count, local = 0, 1, None
        for names in _LAUNCHERS:
            if all(name in environment for name in names):
                number, count, local = (int(environment[name]) for name in names)
                break
        if all(name in environment for name in _ARRAY):
            task, first, step, tasks = (int(environment[name]) for name in _ARRAY)
            number, count = (task - first) // max(step, 1) * count + number, tasks * count
    except ValueError as error:
        raise ValueError(
            f"share (null) must be given as K/N where the launcher's variables are no numbers: {error}"
        ) from None
    if not 0 <= number < count:
        raise ValueError(f"share (null) must be given as K/N: the launcher tells number {number} of {count}")
    return Share(number, count, local)


def summarise(output: Path, share: Share, tally: Tally) -> Tally | None:
    """Leave what this process did beside what the others did; gather it all in the last of them.

    Args:
        output: folder of the results, which all processes see.
        share: of this process.
        tally: what it did.

    Returns:
        The sum of all shares; None: others are not finished yet, or have gathered it.
    """
    folder = output / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(_tally_path(output, share, share.number)) as file:
        file.write(json.dumps(asdict(tally)).encode())
    paths = [_tally_path(output, share, number) for number in range(share.count)]
    if not all(path.exists() for path in paths):
        return None
    try:
        # Of processes that finish at once only one can take it.
        taken = paths[0].rename(paths[0].with_suffix(".taken"))
        tallies = [Tally(**json.loads(path.read_text())) for path in [taken, *paths[1:]]]
    except FileNotFoundError:
        return None
    for path in [taken, *paths[1:]]:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # others, of another number of processes, are there
        folder.rmdir()
    return Tally(
        sum(each.restored for each in tallies), sum(each.kept for each in tallies), sum(each.failed for each in tallies)
    )


def begin(output: Path, share: Share) -> None:
    """Forget what a former process of this share did."""
    _tally_path(output, share, share.number).unlink(missing_ok=True)


def _tally_path(output: Path, share: Share, number: int) -> Path:
    return output / FOLDER / f"{number + 1}-of-{share.count}.json"


def run_processes(verb: Callable[..., list[Any]], arguments: dict[str, Any], count: int) -> list[Any]:
    """Call a verb in several processes of this machine, each with its share and, where there are several, its device.

    Args:
        verb: function with the argument `share`.
        arguments: all others.
        count: of processes, >= 1.

    Returns:
        What they return, one after another.

    Raises:
        DataError: with all messages, if some of what they were given could not be used.
    """
    threads = max(torch.get_num_threads() // count, 1)
    results: list[Any] = []
    messages = []
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        started = [pool.submit(_in_process, verb, arguments, number, count, threads) for number in range(count)]
        for process in started:
            try:
                results += process.result()
            except DataError as error:
                messages.append(str(error))
    if messages:
        raise DataError("\n".join(messages))
    return results


def _in_process(
    verb: Callable[..., list[Any]], arguments: dict[str, Any], number: int, count: int, threads: int
) -> list[Any]:
    torch.set_num_threads(threads)
    device = Share(number, count, number).device(arguments["device"])
    return verb(**arguments | {"device": device, "share": f"{number + 1}/{count}"})
