"""The bar on a terminal, the lines elsewhere, and the same lines in `train.log`."""

import functools
import re
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Timer

from trainers.monitoring.lines import ProgressLines
from trainers.monitoring.progress import ProgressBar
from trainers.monitoring.remaining import last_step, remaining_seconds, validations_within
from trainers.monitoring.throughput import Throughput
from trainers.recipes import training
from trainers.tasks.base import ImageTask

VALUES = (
    r"left \d+ s, train/loss [\d.]+, learning rate [\de.-]+, val/psnr [\d.]+, "
    r"samples/s [\d.e+]+, data wait \d+ %, memory \d+ MiB"
)


def log(folder: Path) -> list[str]:
    """The lines of a run's `train.log` without their times, which are checked."""
    lines = [line.split(" ", 2) for line in (folder / "train.log").read_text().splitlines()]
    times = [datetime.fromisoformat(f"{day} {time}") for day, time, _ in lines]
    assert times == sorted(times)
    assert all(time.tzinfo is not None for time in times)
    return [text for *_, text in lines]


def test_a_log_file_gets_a_line_after_every_validation(lowrank, recipe, capsys):
    assert lowrank("fit", "--config", recipe, "--trainer.enable_progress_bar", "true") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert len(lines) == 1
    assert re.fullmatch(rf"step 4 of 4, epoch 2/2: {VALUES}", lines[0])
    assert "left 0 s" in lines[0]


@pytest.mark.slow
def test_a_log_file_gets_a_line_now_and_then(lowrank, recipe, capsys, monkeypatch):
    monkeypatch.setattr(training, "ProgressLines", functools.partial(ProgressLines, seconds_per_line=1e-9))
    assert lowrank("fit", "--config", recipe, "--trainer.enable_progress_bar", "true") == 0
    shown = capsys.readouterr().out
    assert re.findall(r"^step (\d) of 4, epoch ./2: left", shown, re.MULTILINE) == ["1", "2", "3", "4", "4"]
    assert "validation: 2 of 2 batches" in shown
    assert lowrank("test", "--config", recipe, "--trainer.enable_progress_bar", "true") == 0
    assert "test: 3 of 3 batches" in capsys.readouterr().out


def test_a_terminal_has_a_bar_with_the_values(lowrank, recipe, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    assert lowrank("fit", "--config", recipe, "--trainer.enable_progress_bar", "true") == 0
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", capsys.readouterr().out)
    assert "Epoch 2/2 ━" in shown
    values = (
        r"left: \d+ s +train/loss: [\d.]+ +learning rate: [\d.e-]+ +val/psnr: [\d.]+ +samples/s: \S+ +"
        r"data wait: \d+ % +memory: \d+ MiB"
    )
    assert re.search(values, " ".join(shown.split()))
    assert "v_num" not in shown
    assert "step 4 of 4" not in shown
    assert any(line.startswith("step 4 of 4") for line in log(tmp_path / "logs/run/version_0"))


def test_the_run_s_folder_keeps_the_printed_lines_with_their_times(lowrank, recipe, tmp_path, capsys):
    assert lowrank("fit", "--config", recipe, "--trainer.enable_progress_bar", "true") == 0
    shown = capsys.readouterr().out.splitlines()
    folder = tmp_path / "logs/run/version_0"
    lines = log(folder)
    assert lines[0] == "training begins at step 0 of 4"
    assert lines[1:] == shown
    assert any(line.startswith("last checkpoint:") for line in lines)
    assert lowrank("test", "--config", recipe) == 0
    assert not (tmp_path / "logs/run/version_1/train.log").exists()


def test_lines_are_kept_where_none_are_printed(lowrank, recipe, tmp_path, capsys):
    assert lowrank("fit", "--config", recipe) == 0
    assert "step 4 of 4" not in capsys.readouterr().out
    assert any(
        re.fullmatch(rf"step 4 of 4, epoch 2/2: {VALUES}", line) for line in log(tmp_path / "logs/run/version_0")
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyboardInterrupt(), "ended at step 2 of 4: interrupted"),
        (RuntimeError("the cable"), "ended at step 2 of 4: RuntimeError: the cable"),
        (ValueError("x (1) must be 2"), "ended at step 2 of 4: x (1) must be 2"),
    ],
)
def test_what_ended_a_run_is_its_last_line(lowrank, recipe, tmp_path, monkeypatch, error, message):
    step = ImageTask.training_step

    def fail(task: ImageTask, batch: Any, batch_idx: int) -> torch.Tensor:
        if task.trainer.global_step == 2:
            raise error
        return step(task, batch, batch_idx)

    monkeypatch.setattr(ImageTask, "training_step", fail)
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError, match="the cable"):
            lowrank("fit", "--config", recipe)
    else:
        assert lowrank("fit", "--config", recipe) in (2, 130)
    assert log(tmp_path / "logs/run/version_0")[-1] == message


def test_a_resumed_run_names_its_checkpoint(lowrank, recipe, tmp_path):
    assert lowrank("fit", "--config", recipe) == 0
    assert lowrank("fit", "--config", recipe, "--trainer.max_steps", 6, "--ckpt_path", "last") == 0
    last = tmp_path / "logs/run/version_0/checkpoints/last.ckpt"
    assert log(tmp_path / "logs/run/version_1")[0] == f"training begins at step 4 of 6, resumed from {last}"


def trainer(**options: Any) -> Any:
    """What the estimate reads of a trainer: 100 steps of 2 batches, an epoch of 20 batches, validation every epoch."""
    given = {
        "max_steps": 100,
        "max_epochs": -1,
        "global_step": 40,
        "accumulate_grad_batches": 2,
        "num_training_batches": 20,
        "num_val_batches": [3, 2],
        "val_check_batch": 20,
        "check_val_every_n_epoch": 1,
        "callbacks": [],
    }
    return SimpleNamespace(**(given | options))


def measured(seconds_per_batch: float, seconds_per_validation: float) -> Throughput:
    result = Throughput()
    result.seconds = 1.0
    result._recent = (0.0, 10 * seconds_per_batch, 0.0, 10.0)
    result.seconds_per_validation = lambda batches: seconds_per_validation  # type: ignore[method-assign]
    return result


def test_the_time_left_is_that_of_steps_and_validations():
    # 60 steps of 2 batches of 0.5 s, and the validations of the last 6 of 10 epochs.
    assert remaining_seconds(trainer(callbacks=[measured(0.5, 7.0)])) == pytest.approx(120 * 0.5 + 6 * 7.0)


def test_the_time_left_is_unknown_before_the_first_step_and_without_an_end():
    assert remaining_seconds(trainer(callbacks=[Throughput()])) is None
    assert remaining_seconds(trainer(callbacks=[])) is None
    assert remaining_seconds(trainer(max_steps=-1, callbacks=[measured(0.5, 7.0)])) is None


def test_a_limit_of_time_is_an_end():
    timer = Timer(duration={"seconds": 30})
    assert remaining_seconds(trainer(callbacks=[measured(0.5, 7.0), timer])) == pytest.approx(30)
    assert remaining_seconds(trainer(global_step=99, callbacks=[measured(0.5, 7.0), timer])) == pytest.approx(8)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 100),
        ({"max_epochs": 3}, 30),
        ({"max_epochs": 30}, 100),
        ({"max_steps": -1, "max_epochs": 3, "num_training_batches": 21}, 33),
        ({"max_steps": -1}, float("inf")),
    ],
)
def test_the_last_step_is_the_first_limit(options, expected):
    assert last_step(trainer(**options)) == expected


@pytest.mark.parametrize(
    ("options", "batches", "expected"),
    [
        ({}, 0, 0),
        ({}, 19, 0),
        ({}, 200, 10),
        ({"check_val_every_n_epoch": 5}, 99, 0),
        ({"check_val_every_n_epoch": 5}, 199, 1),
        ({"check_val_every_n_epoch": 5}, 200, 2),
        ({"val_check_batch": 5}, 33, 6),
        ({"val_check_batch": 5, "check_val_every_n_epoch": 2}, 33, 2),
        ({"val_check_batch": 30, "check_val_every_n_epoch": None}, 100, 3),
        ({"num_val_batches": [0]}, 100, 0),
        ({"val_check_batch": float("inf")}, 100, 0),
    ],
)
def test_validations_are_counted_as_the_trainer_holds_them(options, batches, expected):
    assert validations_within(trainer(**options), batches) == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ProgressBar(redraws_per_second=0), r"redraws_per_second \(0\) must be at least 1"),
        (lambda: ProgressLines(seconds_per_line=0.0), r"seconds_per_line \(0.0\) must be above 0"),
    ],
)
def test_rates_that_cannot_be_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
