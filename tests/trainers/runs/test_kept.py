"""Which of several runs' checkpoints is the newest."""

import itertools
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from trainers.monitoring.tensorboard import RunLogger
from trainers.runs.kept import kept_checkpoints


def test_the_newest_is_that_of_the_last_version_whatever_the_clock_said(tmp_path: Path):
    names = [
        f"version_{version}/checkpoints/{name}" for version in (0, 9, 10) for name in ("last-step=5.ckpt", "last.ckpt")
    ]
    for age, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        # The clock went backwards, or a copy took the files in another order.
        os.utime(path, (10_000 - age, 10_000 - age))
    trainer = SimpleNamespace(logger=RunLogger(tmp_path, name=""))
    assert [path.relative_to(tmp_path).as_posix() for path in kept_checkpoints("last", trainer)] == names


@pytest.mark.parametrize("order", list(itertools.permutations(("version_3", "version_10", "ablation"))))
def test_among_runs_with_names_of_their_own_the_last_started_is_the_newest(tmp_path: Path, order: tuple[str, ...]):
    names = [f"{folder}/checkpoints/last.ckpt" for folder in order]
    for age, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (10_000 + age, 10_000 + age))
    trainer = SimpleNamespace(logger=RunLogger(tmp_path, name=""))
    assert [path.relative_to(tmp_path).as_posix() for path in kept_checkpoints("last", trainer)] == names
