"""A run that came to its end and is given more steps ends as one that was given them at once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import datamodules
import trainers

SEEN: list[tuple[str, ...]] = []


class Noting(trainers.RestorationTask):
    """Notes the images of each step and the steps before each validation."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        SEEN.append(tuple(batch["name"]))
        return super().training_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if not self.trainer.sanity_checking:
            SEEN.append((f"validated after {self.trainer.global_step}",))


def run(folder: Path, name: str, **options: Any) -> tuple[list[tuple[str, ...]], dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    task = Noting(nn.Conv2d(3, 3, 3, padding=1))
    samples = options.pop("samples", 4)
    data = datamodules.DemoDataModule(patch_size=16, batch_size=2, epoch_length=samples, eval_size=16, num_workers=0)
    SEEN.clear()
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "logs": folder, "name": name, "max_epochs": -1}
    trainers.run(task, data, **quiet | options)
    return list(SEEN), task.state_dict()


@pytest.mark.parametrize("first", [2, 3, 6])
@pytest.mark.parametrize(
    "validation", [{"check_val_every_n_epoch": 2}, {"check_val_every_n_epoch": None, "val_check_interval": 3}], ids=str
)
def test_a_run_that_is_extended_is_one_that_was_longer(tmp_path, validation, first):
    straight, weights = run(tmp_path, "straight", max_steps=8, **validation)
    before, _ = run(tmp_path, "extended", max_steps=first, **validation)
    after, extended = run(tmp_path, "extended", max_steps=8, ckpt_path="last", **validation)
    assert before + after == straight
    torch.testing.assert_close(extended, weights, rtol=0, atol=0)


def test_a_run_of_epochs_goes_on_by_steps(tmp_path):
    straight, weights = run(tmp_path, "straight", max_steps=6, check_val_every_n_epoch=3)
    before, _ = run(tmp_path, "extended", max_epochs=2, check_val_every_n_epoch=3)
    after, extended = run(tmp_path, "extended", max_steps=6, ckpt_path="last", check_val_every_n_epoch=3)
    assert before + after == straight
    torch.testing.assert_close(extended, weights, rtol=0, atol=0)


@pytest.mark.parametrize(
    "options",
    [
        # Validations within a step and after it, in the middle of an epoch and at its end.
        {"samples": 6, "accumulate_grad_batches": 4, "val_check_interval": 0.5},
        {"samples": 10, "accumulate_grad_batches": 4, "check_val_every_n_epoch": None, "val_check_interval": 3},
    ],
    ids=str,
)
def test_accumulated_steps_are_extended(tmp_path, options):
    straight, weights = run(tmp_path, "straight", max_steps=4, **options)
    before, _ = run(tmp_path, "extended", max_steps=1, **options)
    after, extended = run(tmp_path, "extended", max_steps=4, ckpt_path="last", **options)
    assert before + after == straight
    torch.testing.assert_close(extended, weights, rtol=0, atol=0)
