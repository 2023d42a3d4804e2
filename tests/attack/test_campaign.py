"""The campaign's judge can condemn: planted faults are counted where they belong, and a right command as right."""

import itertools
import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.attack.campaign import execution
from tests.attack.campaign.judging import Verdict, list_files
from tests.attack.campaign.kinds import MAKERS, SHARES, share_out
from tests.attack.campaign.pool import Failure
from tests.attack.campaign.shared import identity_weights
from tests.attack.campaign.table import table
from tests.attack.inputs.attack import REFUSED, Attack, Shared, Step
from tests.attack.inputs.images import is_picture, random_png, restoring
from tests.trainers.checkpoints.resuming import write_recipe
from trainers.commands.restore import image_file

read = image_file.read_image_with_metadata


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Shared:
    """What attacks share, with a stand-in for a finished training."""
    folder = tmp_path_factory.mktemp("shared")
    torch.save({"params": identity_weights()}, folder / "identity.pth")
    run = folder / "logs/run/version_0"
    (run / "checkpoints").mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"state": "finished", "configuration": {"a": 1}}))
    (run / "config.yaml").write_text(yaml.safe_dump({"seed_everything": 1}))
    torch.save({"state_dict": {"a": torch.zeros(2)}, "global_step": 10}, run / "checkpoints/last.ckpt")
    return Shared(folder, write_recipe(folder), folder / "identity.pth", run)


def planted(fault: Callable[[], None], statuses: tuple[int, ...] = (0,)) -> Callable[..., Attack]:
    """The restoration of a picture by a command with a fault."""

    def make(chance: random.Random, folder: Path, shared: Shared) -> Attack:
        picture = random_png(chance)
        (folder / "in").mkdir()
        (folder / "in/random.png").write_bytes(picture.data)
        step = replace(restoring(Path("in/random.png"), shared, statuses=statuses), prepare=fault)
        return Attack("planted", [step], ("out/*",), check=is_picture(picture))

    return make


def reading(what: Callable[[Path], Any]) -> Callable[[], None]:
    """Do something else when an image is read."""

    def fault() -> None:
        image_file.read_image_with_metadata = what

    return fault


def another_picture(path: Path) -> Any:
    image, metadata = read(path)
    return image ^ 1, metadata


def raise_error(path: Path) -> Any:
    raise KeyError("a bug")


def remove_it(path: Path) -> Any:
    result = read(path)
    path.unlink()
    return result


def change_it(path: Path) -> Any:
    result = read(path)
    path.write_bytes(b"other")
    return result


def leave_a_half(path: Path) -> Any:
    Path("out").mkdir()
    Path("out/.a.png.1.tmp").touch()
    return read(path)


def write_elsewhere(path: Path) -> Any:
    Path("core").touch()
    return read(path)


def execute(path: Path) -> Any:
    os.system("true")
    return read(path)


def say_escapes(path: Path) -> Any:
    print("\x1b[31m")
    return read(path)


def leave_a_process(path: Path) -> Any:
    if os.fork() == 0:
        time.sleep(60)
    return read(path)


def take_memory(path: Path) -> Any:
    _ = b"x" * (300 * 2**20)
    return read(path)


def fail_silently(path: Path) -> Any:
    raise SystemExit(2)


def fail_twice(path: Path) -> Any:
    os.write(2, b"error: this is the first of two messages\n")
    raise ValueError("name (value) must be another")


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (read, "right"),
    "another picture": (another_picture, "wrong silently"),
    "a bug": (raise_error, "traceback"),
    "a crash": (lambda path: os.kill(os.getpid(), signal.SIGSEGV), "traceback"),
    "no end": (lambda path: time.sleep(60), "hung"),
    "work without end": (lambda path: sum(1 for _ in itertools.count()), "hung"),
    "an input removed": (remove_it, "lost"),
    "an input changed": (change_it, "lost"),
    "half a file": (leave_a_half, "lost"),
    "a file elsewhere": (write_elsewhere, "lost"),
    "a program": (execute, "wrong silently"),
    "escapes": (say_escapes, "wrong silently"),
    "a process": (leave_a_process, "wrong silently"),
    "memory": (take_memory, "wrong silently"),
    "no message": (fail_silently, "wrong silently"),
    "two messages": (fail_twice, "wrong silently"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_counted_where_it_belongs(shared, tmp_path, monkeypatch, name):
    monkeypatch.setattr(execution, "MEMORY", 100 * 2**20)
    monkeypatch.setattr(execution, "LEAVING_SECONDS", 0.3)
    fault, column = FAULTS[name]
    statuses = (0, 2) if "message" in name else (0,)
    seconds = 2.0 if column == "hung" else 60.0
    what, verdict = execution.carry_out(planted(reading(fault), statuses), "1", tmp_path / "attack", shared, seconds)
    assert (what, verdict.column) == ("planted", column), verdict.reason
    assert bool(verdict.reason) == (column != "right")
    assert json.loads((tmp_path / "attack.json").read_text())["column"] == column


@pytest.mark.parametrize(
    ("share", "hung_after"),
    # Of a processor: all of it, as much as a busy machine leaves, and none.
    [(1.0, 60), (0.1, 300), (0.0, 60)],
)
def test_a_busy_machine_is_no_endless_wait(monkeypatch, share, hung_after):
    clock = [0.0]
    monkeypatch.setattr(execution.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(execution, "_processor_seconds", lambda group: share * clock[0])
    is_hung = execution._watch_time(1, 60.0)
    while not is_hung():
        clock[0] += 0.5
    assert hung_after <= clock[0] <= hung_after + 2


def test_processor_time_counts_processes_of_the_group(tmp_path):
    before = execution._processor_seconds(os.getpgrp())
    began = time.process_time()
    while time.process_time() < began + 0.1:
        pass
    assert execution._processor_seconds(os.getpgrp()) > before


def test_a_refusal_that_should_be_none_and_the_reverse_are_found(shared, tmp_path):
    def make(chance: random.Random, folder: Path, shared: Shared) -> Attack:
        return Attack("help", [Step(["--help"], REFUSED)])

    assert execution.carry_out(make, "1", tmp_path / "a", shared)[1].column == "wrong silently"
    assert (
        execution.carry_out(planted(reading(raise_error), REFUSED), "1", tmp_path / "b", shared)[1].column
        == "traceback"
    )


def test_a_shared_file_that_is_changed_is_found(shared, tmp_path):
    def fault() -> None:
        (shared.folder / "new").touch()

    verdict = execution.carry_out(planted(fault), "1", tmp_path / "attack", shared)[1]
    (shared.folder / "new").unlink()
    assert verdict.column == "lost"


@pytest.mark.parametrize("kind", MAKERS)
def test_inputs_depend_on_seed_and_number_alone(shared, tmp_path, kind):
    made = []
    for place in ("a", "b"):
        # At the same path: some inputs name it.
        folder = tmp_path / "attack"
        folder.mkdir()
        attacks = []
        for number in range(3):
            inner = folder / str(number)
            inner.mkdir()
            attacks.append(MAKERS[kind](random.Random(f"1/{kind}/{number}"), inner, shared))
        made.append([(attack.what, [list(map(str, step.arguments)) for step in attack.steps]) for attack in attacks])
        made[-1].append({path for path in list_files(folder)})
        folder.rename(tmp_path / place)
    assert made[0] == made[1]


def test_every_kind_has_its_share():
    assert SHARES.keys() == MAKERS.keys()
    for inputs in (100, 2000):
        assert sum(share_out(inputs).values()) == inputs


def test_the_table_counts_every_column():
    columns = ("right", "right", "traceback", "wrong silently", "hung", "lost")
    results = [Failure("images", number, "", Verdict(column)) for number, column in enumerate(columns)]
    assert table(results).splitlines()[-1] == "| all | 6 | 2 | 1 | 1 | 1 | 1 |"
