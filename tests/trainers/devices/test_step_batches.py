"""Recipes count samples: what becomes of them on other devices."""

import csv
import re
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import LightningDataModule

from datamodules.loading.resumable import ResumableLoader
from datamodules.loading.samples import NumberedSamples
from tests.trainers.recipes.shrinking import CONFIGS
from trainers.devices.step_batches import StepBatches, adapt, choose_step_batches

RESTORMER = [64, 40, 32, 16, 8, 8]


@pytest.mark.parametrize(
    ("devices", "most", "accumulated", "batches"),
    [
        # Upstream's eight devices, and what its step becomes on fewer of them.
        (8, 8, 1, [8, 5, 4, 2, 1, 1]),
        (4, 8, 2, [8, 5, 4, 2, 1, 1]),
        (1, 8, 8, [8, 5, 4, 2, 1, 1]),
        # Larger devices.
        (1, 16, 4, [16, 10, 8, 4, 2, 2]),
        (1, None, 1, RESTORMER),
        (2, 32, 1, [32, 20, 16, 8, 4, 4]),
    ],
)
def test_every_stage_keeps_its_samples_where_devices_divide_them(devices, most, accumulated, batches):
    step = choose_step_batches(RESTORMER, devices, most=most)
    assert step == StepBatches(RESTORMER, devices, accumulated)
    assert step.batches == batches
    assert step.kept == RESTORMER
    assert "cannot" not in step.describe()


@pytest.mark.parametrize("devices", [1, 2, 3, 5, 6, 7, 8])
@pytest.mark.parametrize("most", [8, 11, 16, 64])
def test_other_numbers_come_near(devices, most):
    batches = choose_step_batches([64], devices, most=most)
    assert max(batches.batches) <= most
    assert max(batches.deviations) <= 1 / 16
    stages = choose_step_batches(RESTORMER, devices, most=most)
    assert max(stages.batches) <= most
    # The last stages' eight samples cannot be fewer than all devices' batches, of one each.
    assert max(stages.deviations[:4]) <= 1 / 4


def test_what_was_done_is_told_in_one_line():
    assert choose_step_batches([64], 2, most=8).describe() == "64 samples a step = 2 devices × 8 × 4 accumulated"
    assert choose_step_batches([64, 8], 1, most=8).describe() == (
        "64 samples a step = 1 device × 8 × 8 accumulated; later stages: 8 = 1 × 1 × 8"
    )
    assert choose_step_batches([64], 3, most=8).describe() == (
        "63 samples a step (the recipe's 64 cannot be shared out) = 3 devices × 7 × 3 accumulated; "
        "the learning rate is left as it is"
    )
    assert (
        "16 (the recipe's 8 cannot be shared out) = 16 × 1 × 1" in choose_step_batches(RESTORMER, 16, most=8).describe()
    )


def test_limits_that_cannot_be_kept_are_refused():
    with pytest.raises(ValueError, match=r"max_batch_per_device \(0\) must be at least 1"):
        choose_step_batches([8], 1, most=0)
    with pytest.raises(ValueError, match=r"max_batch_per_device \(2\) must be at least 4 where .* is 2: leave that"):
        choose_step_batches([8], 1, most=2, accumulated=2)
    with pytest.raises(ValueError, match=r"max_batch_per_device \(2\) must be null for LightningDataModule"):
        adapt(None, LightningDataModule(), 2)


def scores_of(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open() as file:
        return [float(row["val/psnr"]) for row in csv.DictReader(file) if row.get("val/psnr")]


@pytest.mark.slow
def test_a_limit_changes_neither_the_steps_nor_the_weights(lowrank, recipe, tmp_path, capsys):
    options = ["--data.batch_size", 4, "--trainer.check_val_every_n_epoch", "null", "--trainer.val_check_interval", 2]
    options += ["--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", 0.1]
    options += ["--trainer.logger", "lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir", "csv"]
    assert lowrank("fit", "--config", recipe, *options) == 0
    assert "samples a step" not in capsys.readouterr().out
    assert lowrank("fit", "--config", recipe, *options, "--max_batch_per_device", 1) == 0
    assert "4 samples a step = 1 device × 1 × 4 accumulated" in capsys.readouterr().out
    whole, parts = (torch.load(f"csv/run/version_{run}/checkpoints/last.ckpt", weights_only=True) for run in range(2))
    assert whole["global_step"] == parts["global_step"] == 4
    torch.testing.assert_close(parts["state_dict"], whole["state_dict"])
    # Validation follows the steps, not the batches.
    scores = [scores_of(Path(f"csv/run/version_{run}")) for run in range(2)]
    assert [len(values) for values in scores] == [2, 2]
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)


STAGES = ["--data.stages", "[{start: 4, patch_size: 8, batch_size: 4}]"]


@pytest.mark.slow
@pytest.mark.parametrize("stages", [pytest.param([], marks=pytest.mark.slow), STAGES])
def test_a_run_may_go_on_with_another_accumulation_within_an_epoch(lowrank, recipe, stages):
    options = ["--data.batch_size", 2, "--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", 0.1, *stages]
    fit = ["fit", "--config", recipe, *options, "--trainer.logger.init_args.save_dir", "."]
    assert lowrank(*fit, "--trainer.max_steps", 7) == 0
    # Epochs have two steps: all three parts meet within one.
    for steps, most in ((1, 2), (5, 1), (7, 2)):
        resume = [] if steps == 1 else ["--ckpt_path", "last"]
        name = ["--trainer.logger.init_args.name", "parts", "--max_batch_per_device", 2 * most if stages else most]
        assert lowrank(*fit, *name, *resume, "--trainer.max_steps", steps) == 0
    whole, parts = (
        torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True) for name in ("run/version_0", "parts/version_2")
    )
    torch.testing.assert_close(parts["state_dict"], whole["state_dict"])
    found, expected = (checkpoint["loops"]["fit_loop"] for checkpoint in (parts, whole))
    assert found["epoch_loop.batch_progress"] == expected["epoch_loop.batch_progress"]
    assert found["state_dict"]["combined_loader"] == expected["state_dict"]["combined_loader"]


def test_a_place_in_the_epoch_is_the_same_on_another_number_of_devices():
    def loader(devices: int, rank: int) -> ResumableLoader:
        batch = 4 // devices
        return ResumableLoader(range(16), batch, sampler=NumberedSamples(range(16), devices, rank, 5, step=batch))

    both, seen = [loader(2, rank) for rank in range(2)], []
    for each in both:
        for _, batch in zip(range(2), each, strict=False):
            seen += batch.tolist()
    one = loader(1, 0)
    one.load_state_dict(both[0].state_dict())
    assert sorted(seen + [sample for batch in one for sample in batch.tolist()]) == list(range(16))


def test_an_epoch_has_whole_steps(lowrank, recipe, tmp_path):
    # Four images are one step of three, and one image is left over.
    options = ["--data.batch_size", 3, "--max_batch_per_device", 1, "--trainer.max_steps", 2]
    assert lowrank("fit", "--config", recipe, *options) == 0
    [last] = tmp_path.rglob("last.ckpt")
    progress = torch.load(last, weights_only=True)["loops"]["fit_loop"]
    assert progress["epoch_loop.batch_progress"]["total"]["ready"] == 6
    assert progress["epoch_progress"]["current"]["ready"] == 2


def test_a_limit_of_batches_is_one_of_steps(lowrank, recipe, tmp_path):
    options = ["--max_batch_per_device", 1, "--trainer.limit_train_batches", 1]
    assert lowrank("fit", "--config", recipe, *options, "--trainer.max_steps", -1, "--trainer.max_epochs", 2) == 0
    [last] = tmp_path.rglob("last.ckpt")
    saved = torch.load(last, weights_only=True)
    assert saved["global_step"] == 2
    assert saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"] == 4


def test_too_few_images_for_the_devices_are_refused(lowrank, recipe, capsys):
    options = ["--data.batch_size", 4, "--trainer.accumulate_grad_batches", 8]
    assert lowrank("fit", "--config", recipe, *options) == 2
    assert "batch_size (4, here 8) must not exceed the patches of an epoch, got 4" in capsys.readouterr().err


def test_data_of_others_have_batches_of_their_own(lowrank, recipe, capsys):
    options = ["--data", "others_data.Data", "--max_batch_per_device", 2]
    module = "from lightning.pytorch.demos.boring_classes import BoringDataModule\nclass Data(BoringDataModule): pass\n"
    Path("others_data.py").write_text(module)
    config = yaml.safe_load(recipe.read_text())
    del config["data"]
    recipe.write_text(yaml.safe_dump(config))
    assert lowrank("fit", "--config", recipe, *options) == 2
    assert "must be null for Data" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", sorted((CONFIGS / "glmha").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_papers_recipes_leave_accumulation_to_the_hardware(recipe: Path):
    config = yaml.safe_load(recipe.read_text())
    assert "accumulate_grad_batches" not in config["trainer"]
    part = yaml.safe_load((recipe.parent / config["data"]).read_text())["init_args"]
    samples = [part["batch_size"], *(stage["batch_size"] for stage in part.get("stages", []))]
    most = config["max_batch_per_device"]
    assert choose_step_batches(samples, 1, most=most).kept == samples
    # As upstream shares them out.
    devices = int(re.search(r"trains on (\d|one) GPU", recipe.read_text())[1].replace("one", "1"))
    assert choose_step_batches(samples, devices, most=most).accumulated == 1
