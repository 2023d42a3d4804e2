"""Signals at any moment: what was begun ends, after one more command, as if nothing had happened."""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.attack.inputs.attack import DONE, Attack, Ended, Shared, Step, one_of
from tests.attack.inputs.checkpoints import exported_is, sound
from tests.attack.inputs.images import differing, random_png, read_independently
from tests.attack.inputs.recipes import same_as
from tests.datamodules.conftest import write_pairs

NUMBERS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
# Before a command minds signals, SIGTERM ends it as it ends every process. Python ends itself by SIGINT, after the
# command has, where that came as text was executed, as it is where a dataclass is made.
STOPPED = (0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, 130, 143)
CHANGING = ("open", "os.rename", "os.remove", "os.mkdir", "os.link", "os.truncate", "os.rmdir")
"""What Python tells of as files are changed."""


def at_a_change(number: signal.Signals, count: int, folder: Path) -> Callable[[], None]:
    """Prepare a process to send itself a signal when it is about to change files for the count-th time."""

    def prepare() -> None:
        left = count

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            if event not in CHANGING or (event == "open" and not _writes(arguments)):
                return
            if not str(arguments[0]).startswith((str(folder), "out", ".")):
                return
            left -= 1
            if left == 0:
                os.kill(os.getpid(), number)

        sys.addaudithook(hook)

    return prepare


def _writes(arguments: tuple[Any, ...]) -> bool:
    return isinstance(arguments[1], str) and bool(set(arguments[1]) & set("wax+"))


def after(number: signal.Signals, seconds: float, times: int = 1) -> Callable[[int], None]:
    """Send a process a signal some time after its start, perhaps twice."""

    def disturb(process: int) -> None:
        for _ in range(times):
            time.sleep(seconds)
            os.kill(process, number)

    return disturb


def stopped(
    arguments: list[Any], chance: random.Random, folder: Path, seconds: float, changes: int
) -> tuple[Step, str]:
    """A command that is sent a signal at a moment drawn by chance; and which."""
    number = chance.choice(NUMBERS)
    if chance.random() < 0.5:
        count = chance.randint(1, changes)
        return Step(arguments, STOPPED, prepare=at_a_change(number, count, folder)), f"{number.name} at change {count}"
    moment, times = chance.uniform(0, seconds), chance.choice((1, 1, 2))
    return Step(
        arguments, STOPPED, disturb=after(number, moment, times)
    ), f"{number.name} after {moment:.2f} s, {times} times"


def _fit(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    arguments = ["fit", "--config", shared.recipe, "--trainer.logger.save_dir", folder / "logs"]
    arguments += ["--ckpt_path", "auto"]
    steps, moments = [], []
    for _ in range(chance.choice((1, 1, 2))):
        step, moment = stopped(arguments, chance, folder, 4.0, 40)
        steps.append(step)
        moments.append(moment)
    # A run that was over when the signal came has nothing left to do.
    steps.append(Step(arguments, DONE))
    return Attack(f"fit, {', '.join(moments)}", steps, ("logs/*",), check=same_as(shared.run))


def _restore(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    pictures = {f"{number}.png": random_png(chance) for number in range(6)}
    (folder / "in").mkdir()
    for name, picture in pictures.items():
        (folder / "in" / name).write_bytes(picture.data)
    arguments = ["restore", "in", "--pretrained", shared.identity, "--output", "out"]
    step, moment = stopped(arguments, chance, folder, 0.6, 14)

    def check(folder: Path, ended: Ended) -> str | None:
        for name, picture in pictures.items():
            if wrong := differing(read_independently(folder / "out" / name), picture.pixels, 0):
                return f"{name}: {wrong}"
        return None

    return Attack(f"restore, {moment}", [step, Step(arguments, DONE)], ("out/*",), check=check)


def _prepare(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    names = [f"{number}" for number in range(6)]
    write_pairs(folder / "source/GoPro/train", names, size=(20, 24))
    arguments = ["prepare", "gopro", "--source", "source", "--crop_size", "12", "--step", "8"]
    more = chance.choice(([], ["--pack"]))
    workers = ["--workers", chance.choice(("0", "0", "2"))]
    step, moment = stopped([*arguments, *more, *workers, "--output", "out"], chance, folder, 0.8, 60)
    ends = [Step([*arguments, *more, "--workers", "0", "--output", output], DONE) for output in ("out", "whole")]

    def check(folder: Path, ended: Ended) -> str | None:
        found, whole = (
            {
                str(path.relative_to(folder / name)): path.read_bytes()
                for path in (folder / name).rglob("*")
                if path.is_file()
            }
            for name in ("out", "whole")
        )
        if found.keys() != whole.keys():
            return f"other files: {sorted(found.keys() ^ whole.keys())[:5]}"
        # Packs hold the time of their making.
        other = [name for name in whole if found[name] != whole[name] and not name.endswith(".h5")]
        return f"{other[0]} is another" if other else None

    return Attack(f"prepare {more} {workers}, {moment}", [step, *ends], ("out/*", "whole/*"), check=check)


def _export(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """A file that is replaced is the former or the new one, whole."""
    shutil.copy(shared.run / "checkpoints/last.ckpt", folder / "old.pth")
    shutil.copy(folder / "old.pth", folder / "out.pth")
    arguments = ["export", "--checkpoint", shared.identity, "--output", "out.pth"]
    step, moment = stopped(arguments, chance, folder, 0.3, 3)
    # What is there now, the former or the new one, is read before it is replaced again.
    between = Step(["export", "--checkpoint", "out.pth", "--output", "between.pth"], DONE)

    def check(folder: Path, ended: Ended) -> str | None:
        expected = dict(sound()["restormer"])
        expected["output.weight"] = expected["output.weight"] * 0
        return exported_is(expected, expected)(folder, ended)

    return Attack(
        f"export, {moment}", [step, between, Step(arguments, DONE)], ("between.pth",), ("out.pth",), check=check
    )


MAKERS = ((4, _fit), (3, _restore), (2, _prepare), (2, _export))


def make(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """Begin something, send a signal, and let the same command end it."""
    return one_of(chance, MAKERS, folder, shared)
