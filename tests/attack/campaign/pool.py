"""Attacks at once, each in a process of its own that is forked off one in which all is imported."""

import contextlib
import os
import pickle
import shutil
import signal
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.attack.campaign.execution import carry_out
from tests.attack.campaign.judging import Verdict
from tests.attack.campaign.kinds import MAKERS
from tests.attack.inputs.attack import Shared

LONGEST = 1800
"""Seconds after which a process is ended that makes and judges an attack."""


class Failure(NamedTuple):
    """What came of an attack.

    Attributes:
        kind: of its input.
        number: among the inputs of the kind.
        what: the input in words.
        verdict: whether it ended right.
    """

    kind: str
    number: int
    what: str
    verdict: Verdict


def run_all(work: Sequence[tuple[str, int]], seed: int, folder: Path, shared: Shared, processes: int) -> list[Failure]:
    """Carry out attacks, several at once.

    Args:
        work: kind and number of each.
        seed: of the campaign.
        folder: for inputs and results; those of attacks that end right are removed.
        shared: what attacks share.
        processes: attacks at once.

    Returns:
        One entry for each, in the order of `work`.

    Raises:
        RuntimeError: if an attack could not be made or judged, which is a fault of the campaign.
    """
    waiting = list(reversed(work))
    running: dict[int, tuple[str, int]] = {}
    results: dict[tuple[str, int], Failure] = {}
    while waiting or running:
        while waiting and len(running) < processes:
            kind, number = waiting.pop()
            process = os.fork()
            if process == 0:
                _carry_out(kind, number, seed, folder, shared)
            running[process] = kind, number
        process, status = os.wait()
        kind, number = running.pop(process)
        result = folder / f"{kind}-{number}.verdict"
        if os.waitstatus_to_exitcode(status) != 0:
            for other in running:
                os.kill(other, signal.SIGKILL)
            raise RuntimeError(
                f"{kind}/{number} could not be made or judged: "
                + (result.read_text() if result.exists() else f"status {status}")
            )
        what, verdict = pickle.loads(result.read_bytes())
        results[kind, number] = Failure(kind, number, what, verdict)
        if verdict.column == "right":
            _remove(folder, f"{kind}-{number}")
    return [results[each] for each in work]


def _carry_out(kind: str, number: int, seed: int, folder: Path, shared: Shared) -> None:
    """Carry an attack out and leave the process."""
    result = folder / f"{kind}-{number}.verdict"
    status = 1
    try:
        # Kills this process where an attack cannot be made or judged in any time.
        signal.alarm(LONGEST)
        result.write_bytes(
            pickle.dumps(carry_out(MAKERS[kind], f"{seed}/{kind}/{number}", folder / f"{kind}-{number}", shared))
        )
        status = 0
    except BaseException:
        result.write_text(traceback.format_exc())
    finally:
        os._exit(status)


def _remove(folder: Path, name: str) -> None:
    shutil.rmtree(folder / name, ignore_errors=True)
    for path in folder.glob(f"{name}.*"):
        with contextlib.suppress(OSError):
            path.unlink()
