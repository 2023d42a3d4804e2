"""An attack: what is run on an input, and how its result is known to be right."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

REFUSED = (2,)
DONE = (0,)
EITHER = (0, 2)


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        status: exit status; of a process that a signal ended, its number with a minus sign.
        out: what it printed.
        err: what it wrote to standard error.
    """

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Step:
    """One call of `lowrank`.

    Attributes:
        arguments: after the command's name.
        statuses: exit statuses that are right.
        prepare: called in the process, before the command.
        disturb: called with the process's number while it runs, such as to send it a signal.
    """

    arguments: Sequence[Any]
    statuses: tuple[int, ...] = EITHER
    prepare: Callable[[], None] = lambda: None
    disturb: Callable[[int], None] | None = None


@dataclass(frozen=True)
class Attack:
    """Commands on a hostile input, and what is right after them.

    Attributes:
        what: the input, in a few words.
        steps: the commands, one after another.
        outputs: patterns of the files that the commands may write, relative to the folder of the attack.
        changing: patterns of files that were there before and that the commands may change.
        check: called after the last step, with the folder and its end; returns what is wrong, None if nothing is.
    """

    what: str
    steps: Sequence[Step]
    outputs: tuple[str, ...] = ()
    changing: tuple[str, ...] = ()
    check: Callable[[Path, Ended], str | None] = field(default=lambda folder, ended: None)


@dataclass(frozen=True)
class Shared:
    """What many attacks need and none may change, made once.

    Attributes:
        folder: where it lies, with `pairs`.
        recipe: of a short training on `pairs`.
        identity: checkpoint of a network that restores every image to itself.
        run: log folder of a training that is finished.
    """

    folder: Path
    recipe: Path
    identity: Path
    run: Path


Maker = Callable[[random.Random, Path, Shared], Attack]
"""Writes an input into an empty folder and returns the attack with it."""


def one_of(chance: random.Random, makers: Sequence[tuple[int, Maker]], folder: Path, shared: Shared) -> Attack:
    """Make an attack by one of several makers, each as often as its number says."""
    (maker,) = chance.choices([maker for _, maker in makers], [weight for weight, _ in makers])
    return maker(chance, folder, shared)
