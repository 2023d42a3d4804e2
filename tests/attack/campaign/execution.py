"""One attack in a process of its own: made, run under limits, judged."""

import contextlib
import faulthandler
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.attack.campaign.judging import ENDED_BY_SIGNAL, Verdict, judge_files, judge_step, list_files
from tests.attack.inputs.attack import Attack, Ended, Maker, Shared, Step

SECONDS = 60.0
"""Time of a processor that one command may take, and time for which it may take none at all: so a machine that is busy
with other things does not count. On two idle processors the slowest takes three."""
LONGEST = 5
"""Times `SECONDS` that a command may take by the clock, whatever it does."""
MEMORY = 2**30
"""Bytes that an input may cost beside what the process has anyway."""
ADDRESSES = 4 * 2**30
"""Bytes of address space that a command may take beside what the process has anyway."""
EXECUTING = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pty.spawn")
CONNECTING = ("socket.connect", "socket.getaddrinfo", "urllib.Request")
MARK = "executed"
"""File in the folder of an attack that is there only if something was executed or an address was asked."""
LEAVING_SECONDS = 60.0
"""Time for processes of a command to follow it to its end."""


def carry_out(make: Maker, name: str, folder: Path, shared: Shared, seconds: float = SECONDS) -> tuple[str, Verdict]:
    """Make an attack in an empty folder, run it, and judge it.

    Args:
        make: its maker.
        name: seed, kind and number, which decide all that is drawn by chance.
        folder: for the input and for all that is written; made here. Beside it lie what was printed and the verdict.
        shared: what the attack may not change.
        seconds: limit for each command.

    Returns:
        The input in words, and the verdict.
    """
    folder.mkdir(parents=True)
    attack = make(random.Random(name), folder, shared)
    verdict = _judged(attack, folder, shared, seconds)
    record = {"what": attack.what, "column": verdict.column, "reason": verdict.reason}
    record["commands"] = [list(map(str, step.arguments)) for step in attack.steps]
    folder.with_suffix(".json").write_text(json.dumps(record, indent=2))
    return attack.what, verdict


def _judged(attack: Attack, folder: Path, shared: Shared, seconds: float) -> Verdict:
    before, kept = list_files(folder), list_files(shared.folder)
    ended = Ended(0, "", "")
    for number, step in enumerate(attack.steps):
        try:
            ended, memory = run(step, folder, folder.with_suffix(f".{number}"), seconds)
        except TimeoutError as error:
            return Verdict("hung", str(error))
        if (folder / MARK).exists():
            return Verdict("wrong silently", f"executed: {(folder / MARK).read_text()}")
        verdict = judge_step(step, ended)
        if verdict.column != "right":
            return verdict
        if memory > MEMORY:
            return Verdict("wrong silently", f"took {memory / 2**20:.0f} MiB")
    if list_files(shared.folder) != kept:
        return Verdict("lost", "files of another folder were changed")
    if ended.status not in ENDED_BY_SIGNAL:
        verdict = judge_files(attack, before, list_files(folder))
        if verdict.column != "right":
            return verdict
    try:
        wrong = attack.check(folder, ended)
    except Exception:
        # Such as a result that no library can read.
        wrong = f"the result cannot be judged: {traceback.format_exc()}"
    return Verdict("wrong silently", wrong) if wrong else Verdict("right")


def run(step: Step, folder: Path, output: Path, seconds: float) -> tuple[Ended, int]:
    """Run a command in a process that is forked off this one.

    Returns:
        How it ended, and the bytes of memory that it took beside this process's.

    Raises:
        TimeoutError: if it had to be killed.
    """
    files = [output.with_suffix(f"{output.suffix}.{name}") for name in ("out", "err", "begin")]
    for path in files:
        # A signal may end the process before it has made them.
        path.touch()
    with warnings.catch_warnings():
        # Of threads that the forked process has not got; it makes its own.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process == 0:
        _become_command(step, folder, files)
    if step.disturb is not None:
        with contextlib.suppress(ProcessLookupError):
            step.disturb(process)
    is_hung = _watch_time(process, seconds)
    while (ended := os.wait4(process, os.WNOHANG))[0] == 0:
        if is_hung():
            # Where it is shows what it waits for.
            os.kill(process, signal.SIGABRT)
            os.waitpid(process, 0)
            _kill_group(process)
            raise TimeoutError(
                f"still running, {seconds:g} s of work or waiting: {files[1].read_text(errors='replace')[-2000:]}"
            )
        time.sleep(0.005)
    status = os.waitstatus_to_exitcode(ended[1])
    left = _outlived(process)
    out, err, begin = (path.read_text(errors="replace") for path in files)
    # What a fork takes over: less than this process has, as pages of files come to it when they are touched.
    memory = 1024 * ended[2].ru_maxrss - int(begin or _pages(1))
    if left:
        err += f"\n{left}"
        status = status or 1
    return Ended(status, out, err), memory


def _watch_time(group: int, seconds: float) -> Callable[[], bool]:
    """Return what tells whether processes have worked, or waited without any work, for too long."""
    began = changed = looked = time.monotonic()
    worked = 0.0

    def is_hung() -> bool:
        nonlocal changed, looked, worked
        now = time.monotonic()
        if now - looked > min(1.0, seconds / 10):
            looked, before, worked = now, worked, _processor_seconds(group)
            if worked != before:
                changed = now
        return worked > seconds or now - changed > seconds or now - began > LONGEST * seconds

    return is_hung


def _processor_seconds(group: int) -> float:
    """Time of a processor that the living processes of a group have taken, with those of theirs that have ended."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # Behind the command's name, in which there may be spaces: state, parent, group, …
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[2]) == group:
                ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _pages(column: int) -> int:
    """Bytes of this process: of addresses (0) or of memory (1)."""
    return int(Path("/proc/self/statm").read_text().split()[column]) * resource.getpagesize()


def _outlived(group: int) -> str:
    """Kill processes that a command has left behind; empty if there were none."""
    deadline = time.monotonic() + LEAVING_SECONDS
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return ""
        time.sleep(0.01)
    _kill_group(group)
    return "left a process behind"


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _become_command(step: Step, folder: Path, files: list[Path]) -> None:
    """Be `lowrank` from here on, and never return."""
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        files[2].write_text(str(_pages(1)))
        for number, path in enumerate(files[:2], 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND), number)
        sys.stdout, sys.stderr = (open(number, "w", errors="strict", closefd=False) for number in (1, 2))  # noqa: SIM115
        limit = _pages(0) + ADDRESSES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.enable(sys.stderr)
        sys.addaudithook(_watch(folder / MARK))
        from trainers.cli.main import main

        step.prepare()
        status = main([str(argument) for argument in step.arguments])
    except SystemExit as exit_:
        status = exit_.code if isinstance(exit_.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stderr, sys.stdout):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(status)


def _watch(mark: Path) -> Callable[[str, tuple[Any, ...]], None]:
    """A hook that marks what executes a program or asks an address."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        executes = event in EXECUTING and not _is_search(arguments)
        if executes or (event in CONNECTING and not _is_local(arguments)):
            with mark.open("a") as file:
                file.write(f"{event} {arguments}\n")

    return hook


def _is_search(arguments: tuple[Any, ...]) -> bool:
    # The parser's library asks this interpreter where modules lie; nothing of an input is in that.
    return arguments[0] == sys.executable and "print(json.dumps(sys.path))" in str(arguments[1])


def _is_local(arguments: tuple[Any, ...]) -> bool:
    # Processes of one command speak over sockets that are files.
    return len(arguments) > 1 and isinstance(arguments[1], str | bytes)
