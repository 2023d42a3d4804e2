"""The judge of an attack: right, or in which way wrong."""

import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.attack.inputs.attack import Attack, Ended, Step
from trainers.cli.verbs import TRAINER_VERBS

Column = Literal["right", "traceback", "wrong silently", "hung", "lost"]
COLUMNS: tuple[Column, ...] = ("right", "traceback", "wrong silently", "hung", "lost")
ENDED_BY_SIGNAL = (-9, 130, 143)
"""Exit statuses of commands that a signal ended as it should: killed, after Ctrl-C, after SIGTERM."""


PYTHONIC = re.compile(
    r"has no attribute|unhashable|not subscriptable|not iterable|keyword argument|positional argument|Namespace\(|"
    r"<class '|object at 0x|NoneType"
)
"""What a message has that was made for the eyes of a programmer."""


@dataclass(frozen=True)
class Verdict:
    """What came of an attack.

    Attributes:
        column: of the table.
        reason: what is wrong, empty where nothing is.
    """

    column: Column
    reason: str = ""


Files = Mapping[str, tuple[str, ...]]
"""Every entry below a folder, by its path there: its kind, and a digest of what it holds."""


def list_files(folder: Path) -> Files:
    """List what lies below a folder, links not followed."""
    found = {}
    for root, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(root, name)
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            if stat.S_ISLNK(mode):
                content = ("link", str(path.readlink()))
            elif stat.S_ISREG(mode):
                content = ("file", hashlib.sha256(path.read_bytes()).hexdigest())
            else:
                content = ("other", str(stat.S_IFMT(mode)))
            found[str(path.relative_to(folder))] = content
    return found


def judge_step(step: Step, ended: Ended) -> Verdict:
    """Judge how one command ended: its status, and that it told one thing."""
    told = ended.out + ended.err
    last = next((line for line in reversed(ended.err.splitlines()) if line.strip()), "")
    if "Traceback (most recent call last)" in told:
        return Verdict("traceback", last)
    if ended.status < 0 and ended.status not in step.statuses:
        return Verdict("traceback", f"ended by signal {-ended.status}: {last}")
    if ended.status not in step.statuses:
        return Verdict("wrong silently", f"exit status {ended.status}, expected {step.statuses}: {last}")
    if any(letter < " " and letter not in "\n\t" for letter in told) or "\x7f" in told:
        return Verdict("wrong silently", "control characters were printed")
    if ended.status == 2:
        errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
        # Training may have told something before it failed.
        alone = ended.err.startswith("error: ") or step.arguments[0] in TRAINER_VERBS
        if len(errors) != 1 or not alone:
            return Verdict("wrong silently", f"not one message but {len(errors)}: {ended.err[:500]!r}")
        if "must" not in errors[0] and (len(errors[0]) < 20 or PYTHONIC.search(errors[0])):
            return Verdict("wrong silently", f"a message that tells a user nothing: {errors[0]!r}")
    return Verdict("right")


def judge_files(attack: Attack, before: Files, after: Files) -> Verdict:
    """Judge what became of the files: inputs unchanged, nothing half-written, nothing where nothing belongs."""
    for path, content in before.items():
        if after.get(path) != content and not _fits(path, attack.changing):
            return Verdict("lost", f"{path} was {'changed' if path in after else 'removed'}")
    for path in after.keys() - before.keys():
        if path.endswith(".tmp"):
            return Verdict("lost", f"{path} was left half-written")
        if not _fits(path, attack.outputs):
            return Verdict("lost", f"{path} was written")
    return Verdict("right")


def _fits(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(path, pattern) for pattern in patterns)
