"""A run that was stopped, however and at whatever moment, ends where one ends that was never stopped."""

import json
import multiprocessing
import os
import resource
import signal
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.trainers.checkpoints.resuming import (
    KINDS,
    Ends,
    before_a_renaming,
    between_steps,
    command,
    in_a_step,
    in_a_validation,
    in_a_write,
    in_an_update,
    killed,
    run,
    straight,
    write_recipe,
)
from trainers.checkpoints.atomic_io import AtomicCheckpointIO
from trainers.checkpoints.stopping import REQUEUED, TERMINATED
from trainers.runs.run import read_run


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def ends(recipe, tmp_path_factory) -> Ends:
    """Of a run that is never stopped."""
    return straight(tmp_path_factory.mktemp("straight") / "run", recipe)


def last_output(folder: Path) -> str:
    return (folder / "output.txt").read_text()


def newest(folder: Path) -> Path:
    return max((folder / "logs/run").iterdir(), key=lambda path: int(path.name.removeprefix("version_")))


def test_what_is_compared_depends_on_what_is_random_in_a_step(recipe, ends, tmp_path):
    other = straight(tmp_path / "run", recipe, "--model.net.drop_path_rate", "0.4")
    assert "state_dict" in other.differing(ends)


# A run is killed six times over, each time before it has come far; saved are steps 2, 4, 6, …
@pytest.mark.parametrize("kind", ["plain", pytest.param("all", marks=pytest.mark.slow)])
def test_a_run_that_is_killed_at_any_moment_ends_as_if_it_had_not_been(recipe, ends, tmp_path, kind):
    batches = 2 if kind == "all" else 1
    moments = [
        partial(in_a_step, 4 * batches),
        partial(in_an_update, 1),
        partial(in_a_validation, 2),
        partial(in_a_write, 2),
        partial(before_a_renaming, 2),
        partial(between_steps, 3 * batches),
    ]
    expected = ends if kind == "plain" else straight(tmp_path / "straight", recipe, *KINDS[kind])
    found = killed(tmp_path / "killed", recipe, *KINDS[kind], moments=moments)
    assert found.differing(expected) == []
    # What was written by half is gone, and all else is complete.
    assert not list((tmp_path / "killed").rglob("*.tmp"))
    for path in (tmp_path / "killed").rglob("*.ckpt"):
        assert AtomicCheckpointIO().load_checkpoint(path)["global_step"] > 0
    states = [read_run(path.parent).state for path in sorted((tmp_path / "killed").rglob("run.json"))]
    assert sorted(states) == ["finished", *["killed"] * 6]


def signalled(number: signal.Signals, call: int) -> None:
    """Let the whole process group be told to end while this batch is trained on, as schedulers tell it."""
    from trainers import RestorationTask

    original, calls = RestorationTask.training_step, iter(range(1, 100))

    def training_step(*arguments):
        if next(calls) == call:
            for process in [*(child.pid for child in multiprocessing.active_children()), os.getpid()]:
                os.kill(process, number)
        return original(*arguments)

    RestorationTask.training_step = training_step


def signalled_in_validation(call: int) -> None:
    """Send SIGTERM before this image of a validation is restored."""
    from trainers import RestorationTask

    original, calls = RestorationTask.validation_step, iter(range(1, 100))

    def validation_step(*arguments):
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)

    RestorationTask.validation_step = validation_step


def test_sigterm_saves_and_auto_goes_on(recipe, ends, tmp_path):
    # With workers, which are told as well; how many there are is of no consequence.
    arguments = command(tmp_path, recipe, "--ckpt_path", "auto", "--data.num_workers", "2")
    assert run(tmp_path, arguments, partial(signalled, signal.SIGTERM, 3)) == TERMINATED == 143
    said = last_output(tmp_path)
    assert "SIGTERM: finishing this step" in said
    assert "SIGTERM: saved, and ended\nThe last good checkpoint is " in said
    assert "Traceback" not in said
    stopped = read_run(newest(tmp_path))
    assert (stopped.state, stopped.last_step, stopped.step) == ("terminated", 3, 3)
    assert run(tmp_path, arguments) == 0
    assert f"resuming from {stopped.last_checkpoint} (step 3)" in last_output(tmp_path)
    assert Ends.of(tmp_path / "logs").differing(ends) == []


@pytest.mark.parametrize("moment", [partial(signalled, signal.SIGTERM, 10), partial(signalled_in_validation, 4)])
def test_a_run_that_is_told_to_stop_after_its_last_step_ends_with_its_last_validation(recipe, ends, tmp_path, moment):
    # One image is the sanity check's, two are of the first validation, and two of the last.
    assert run(tmp_path, command(tmp_path, recipe), moment) == TERMINATED
    assert Ends.of(tmp_path / "logs").differing(ends) == []


def in_slurm(folder: Path, restarts: int, prepare=None) -> None:
    """Make the process look like one of a SLURM job, whose `scontrol` writes down what it is told."""
    scontrol = folder / "bin/scontrol"
    scontrol.parent.mkdir(exist_ok=True)
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {folder}/scontrol.txt\n')
    scontrol.chmod(0o755)
    os.environ |= {
        "PATH": f"{scontrol.parent}:{os.environ['PATH']}",
        "SLURM_NTASKS": "1",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_JOB_NAME": "training",
        "SLURM_JOB_ID": "42",
        "SLURM_LOCALID": "0",
        "SLURM_PROCID": "0",
        "SLURM_NODEID": "0",
        "SLURM_RESTART_COUNT": str(restarts),
    }
    if prepare is not None:
        prepare()


@pytest.mark.slow
def test_a_slurm_job_that_has_to_end_is_queued_again_and_goes_on_by_itself(recipe, ends, tmp_path):
    arguments = command(tmp_path, recipe)
    # Validation is due after the fourth step, and is caught up on.
    stop = partial(in_slurm, tmp_path, 0, partial(signalled, signal.SIGUSR1, 4))
    assert run(tmp_path, arguments, stop) == REQUEUED == 75
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 42\n"
    stopped = read_run(newest(tmp_path))
    assert (stopped.state, stopped.last_step, stopped.job) == ("requeued", 4, "42")
    # Another job's run of the same recipe, further on, is not this one's.
    other = tmp_path / "logs/run/version_7/checkpoints"
    other.mkdir(parents=True)
    torch.save({"global_step": 9}, other / "last.ckpt")
    assert run(tmp_path, arguments, partial(in_slurm, tmp_path, 1)) == 0, last_output(tmp_path)
    assert f"resuming from {stopped.last_checkpoint} (step 4)" in last_output(tmp_path)
    assert Ends.of(newest(tmp_path)).differing(ends) == []


def limited(call: int) -> None:
    """Let the disk be full when this checkpoint is half written."""
    from trainers.checkpoints import last as checkpoints

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    save, calls = torch.save, iter(range(1, 100))

    def save_within_limit(checkpoint, file) -> None:
        if next(calls) == call:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))
        save(checkpoint, file)

    checkpoints.torch.save = save_within_limit


def test_a_disk_that_is_full_ends_the_run_with_the_checkpoint_before(recipe, tmp_path):
    assert run(tmp_path, command(tmp_path, recipe), partial(limited, 4)) == 2
    folder = newest(tmp_path) / "checkpoints"
    # The second is the best one of step 4, the third its last one.
    assert {path.name for path in folder.iterdir()} == {"last.ckpt", "last-step=2.ckpt", "best-step=4.ckpt"}
    assert AtomicCheckpointIO().load_checkpoint(folder / "last.ckpt")["global_step"] == 4
    assert "last.ckpt) must be writable, got: File too large. Earlier checkpoints are intact" in last_output(tmp_path)
    failed = json.loads((newest(tmp_path) / "run.json").read_text())
    assert failed["state"] == "failed"
    assert failed["error"].startswith("checkpoint (")
