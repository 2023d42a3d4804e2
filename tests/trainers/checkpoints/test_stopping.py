"""A run that is told to stop saves its last step and says how to go on."""

import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from tests.trainers.checkpoints.interrupting import NEVER, interrupting, load
from trainers.checkpoints.last import LastCheckpoint
from trainers.checkpoints.stopping import REQUEUED, TERMINATED
from trainers.errors import Stopped


def test_ctrl_c_while_training_finishes_the_step_and_says_how_to_go_on(lowrank, recipe, tmp_path, capsys):
    before = signal.getsignal(signal.SIGINT)
    # Two images a step: the fifth is of the third step.
    assert lowrank("fit", "--config", interrupting(recipe, "train", 5)) == 130
    assert signal.getsignal(signal.SIGINT) is before
    last = next(tmp_path.rglob("last.ckpt"))
    assert load(last)["global_step"] == 3
    command = re.search(r"lowrank (fit --config \S+ --ckpt_path \S+)", capsys.readouterr().err)
    assert command is not None
    # These data count as others.
    options = ["--data.access", NEVER, "--run.accept_changes", "true"]
    assert lowrank(*command[1].split(), *options) == 0
    assert max(load(path)["global_step"] for path in tmp_path.rglob("last.ckpt")) == 4


@pytest.mark.slow
def test_ctrl_c_waits_for_the_end_of_an_accumulated_step(lowrank, recipe, tmp_path):
    # A step is two batches of one image: the fifth image belongs to the first batch of the third step.
    options = ["--trainer.accumulate_grad_batches", 2]
    assert lowrank("fit", "--config", interrupting(recipe, "train", 5), *options) == 130
    assert load(next(tmp_path.rglob("last.ckpt")))["global_step"] == 3


def test_ctrl_c_during_validation_saves_the_weights_in_training(lowrank, recipe, tmp_path):
    # The first two accesses are the sanity check's.
    assert lowrank("fit", "--config", interrupting(recipe, "val", 3)) == 130
    assert lowrank("fit", "--config", interrupting(recipe, "val", NEVER)) == 0
    stopped, finished = (load(path) for path in sorted(tmp_path.rglob("last.ckpt")))
    assert stopped["global_step"] == finished["global_step"] == 4
    for kind in ("state_dict", "current_model_state"):
        torch.testing.assert_close(stopped[kind], finished[kind], rtol=0, atol=0)
    different = any(
        not torch.equal(stopped["state_dict"][key], stopped["current_model_state"][key])
        for key in stopped["state_dict"]
    )
    assert different, "averaged and trained weights must differ for the test to mean anything"


@pytest.fixture(autouse=True)
def ctrl_c():
    """Ctrl-C as in a terminal: a job in a shell's background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_in_the_sanity_check_writes_nothing(lowrank, recipe, tmp_path, capsys):
    before = signal.getsignal(signal.SIGINT)
    assert lowrank("fit", "--config", interrupting(recipe, "val", 1)) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert not list(tmp_path.rglob("*.ckpt"))
    assert "ckpt_path" not in capsys.readouterr().err


def test_a_second_ctrl_c_stops_at_once(monkeypatch):
    checkpoint = LastCheckpoint()
    checkpoint._on_signal(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        checkpoint._on_signal(signal.SIGINT, None)


@pytest.mark.parametrize(("said", "status"), [(None, REQUEUED), ("`scontrol requeue 42` failed: busy", TERMINATED)])
def test_all_processes_hear_whether_the_job_is_queued_again(said, status):
    asked = []

    class First:
        """What the second process hears of the first."""

        root_device = "cpu"

        def reduce_boolean_decision(self, decision: bool, all: bool) -> bool:
            return decision

        def reduce(self, value: Tensor, reduce_op: str) -> Tensor:
            return value

        def broadcast(self, value: None) -> str | None:
            asked.append(value)
            return said

    checkpoint = LastCheckpoint()
    checkpoint._signal = checkpoint._requeue_signal = signal.SIGUSR1
    trainer = SimpleNamespace(strategy=First(), validating=False, fast_dev_run=True, is_global_zero=False)
    with pytest.raises(Stopped) as stopped:
        checkpoint._stop_if_told(trainer)
    assert (stopped.value.status, asked) == (status, [None])
    assert stopped.value.message.startswith("SIGUSR1: nothing new to save, ")
    assert said is None or said in stopped.value.message


def test_a_resumed_run_that_saved_nothing_names_what_it_went_on_from():
    error = RuntimeError()
    trainer = SimpleNamespace(state=SimpleNamespace(fn=TrainerFn.FITTING), ckpt_path="before.ckpt", global_step=2)
    LastCheckpoint().on_exception(trainer, None, error)
    assert error.__notes__ == ["The last good checkpoint is still before.ckpt."]


@pytest.mark.slow
def test_a_real_ctrl_c_leaves_a_checkpoint_that_resumes(recipe, tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "trainers", "fit"]
    options = ["--config", str(recipe), "--trainer.max_steps", "100000", "--last_checkpoint.every_n_train_steps", "1"]
    run = subprocess.Popen(
        [*command, *options], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 60
        while run.poll() is None and not list(tmp_path.rglob("last.ckpt")) and time.monotonic() < deadline:
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 130, errors
    assert "Traceback" not in errors
    last = next(tmp_path.rglob("last.ckpt"))
    step = load(last)["global_step"]
    resume = re.search(r"lowrank fit (--config \S+ --ckpt_path \S+)", errors)
    assert resume is not None, errors
    again = subprocess.run(
        [*command, *resume[1].split(), "--trainer.max_steps", str(step + 2)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert max(load(path)["global_step"] for path in tmp_path.rglob("last.ckpt")) == step + 2
