"""Hostile checkpoints of runs: changed at a place, cut, damaged, of other runs, among records that point elsewhere."""

import copy
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tests.attack.inputs.attack import EITHER, Attack, Ended, Shared, Step, one_of
from tests.attack.inputs.images import damaged
from tests.attack.inputs.recipes import run_is_whole
from tests.attack.inputs.records import changed_record
from tests.attack.inputs.values import NO_CHECKPOINTS

VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        1,
        3,
        2**70,
        -0.5,
        float("nan"),
        float("inf"),
        "x",
        "",
        [],
        [1],
        ["x"],
        {},
        {"x": 1},
        (),
        b"x",
    ),
)
"""Values that a checkpoint can hold."""
STEPS = 11
"""Where the trainings end that go on from ten steps."""


def places_of(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a checkpoint, from the outside in."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*place, key)
        yield from places_of(inner, (*place, key))


def some_place(content: Any, chance: random.Random) -> tuple[Any, ...]:
    """A place, as likely an outer as an inner one."""
    place: tuple[Any, ...] = ()
    while isinstance(content, dict | list) and content:
        key = chance.choice(list(content)) if isinstance(content, dict) else chance.randrange(len(content))
        place, content = (*place, key), content[key]
        if chance.random() < 0.25:
            break
    return place


def _going_on(chance: random.Random, name: str = "last.ckpt") -> Step:
    given = chance.choice(("last", "auto", f"logs/run/version_0/checkpoints/{name}"))
    options = ["--ckpt_path", given, "--trainer.logger.save_dir", "logs", "--trainer.max_steps", str(STEPS)]
    return Step(["fit", "--config", "recipe.yaml", *options, "--trainer.limit_val_batches", "1"], EITHER)


def _copy(folder: Path, shared: Shared) -> Path:
    target = folder / "logs/run/version_0"
    shutil.copytree(shared.run, target)
    shutil.copy(shared.recipe, folder)
    return target / "checkpoints/last.ckpt"


def went_on(folder: Path, ended: Ended) -> str | None:
    """What is wrong with a run that should have gone on to its end, or been refused."""
    if ended.status != 0:
        return None
    if wrong := run_is_whole(folder, ended):
        return wrong
    if "nothing is left to do" not in ended.err:
        newest = torch.load(max(folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime), weights_only=True)
        if newest["global_step"] != STEPS:
            return f"ended at step {newest['global_step']}"
    return None


def _changed(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    path = _copy(folder, shared)
    content = torch.load(path, weights_only=True)
    place = some_place(content, chance)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    value = inner[place[-1]]
    way = chance.choice(("remove", "replace", "replace", "tensor", "more"))
    other: Any = copy.deepcopy(chance.choice(VALUES))
    if way == "tensor" and isinstance(value, torch.Tensor):
        other = chance.choice(
            (value.double(), value.flatten()[:1], value.bool(), torch.full_like(value, 3), value.tolist())
        )
    if way == "remove":
        del inner[place[-1]]
    elif way == "more" and isinstance(value, dict):
        value["one more"] = other
    else:
        inner[place[-1]] = other
    torch.save(content, path)
    what = f"{'.'.join(map(str, place))[:150]}: {way} {str(other)[:40]!r}"
    return Attack(what, [_going_on(chance)], ("logs/*",), check=went_on)


def _bytes(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    path = _copy(folder, shared)
    data = path.read_bytes()
    way = chance.choice(("cut", "damaged", "text", "links", "only"))
    if way == "cut":
        path.write_bytes(data[: chance.randrange(len(data))])
    elif way == "damaged":
        path.write_bytes(damaged(data, chance))
    elif way == "text":
        path.write_bytes(chance.choice(NO_CHECKPOINTS))
    elif way == "links":
        path.unlink()
        path.symlink_to(chance.choice(("last.ckpt", "/nowhere", "/dev/zero", "..")))
    else:
        (path.parents[1] / "run.json").unlink()
        (path.parents[1] / "config.yaml").unlink()
    return Attack(f"last.ckpt: {way}", [_going_on(chance)], ("logs/*",), check=went_on)


def _records(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """A sound checkpoint whose run's record, or another run's beside it, is hostile."""
    path = _copy(folder, shared)
    record = path.parents[1] / "run.json"
    if chance.random() < 0.5:
        shutil.copytree(
            path.parents[1], path.parents[2] / chance.choice(("version_1", "mine", "version_x", "version_-1"))
        )
    data, what = changed_record(json.loads(record.read_text()), chance)
    record.write_bytes(data)
    return Attack(f"run.json with {what}", [_going_on(chance)], ("logs/*",), check=went_on)


MAKERS = ((6, _changed), (3, _bytes), (2, _records))


def make(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """Write a run's checkpoint and go on from it."""
    return one_of(chance, MAKERS, folder, shared)
