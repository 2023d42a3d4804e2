"""Event files: the curves of a resumed run, and none of runs that have no curve."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainers.monitoring.tensorboard import RunLogger


def read(folder: Path) -> EventAccumulator:
    [file] = folder.glob("events.*")
    accumulator = EventAccumulator(str(file), size_guidance={"scalars": 0, "histograms": 0})
    accumulator.Reload()
    return accumulator


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


@pytest.mark.slow
def test_a_resumed_run_has_the_whole_curve(lowrank, recipe, tmp_path):
    folders = [tmp_path / f"logs/run/version_{number}" for number in range(4)]
    every = ["--config", recipe, "--trainer.check_val_every_n_epoch", 1]
    # Three runs, each going on from the one before; then one that was never stopped.
    assert lowrank("fit", *every, "--trainer.max_steps", 2) == 0
    before = {path: path.read_bytes() for path in folders[0].rglob("*") if path.is_file()}
    assert lowrank("fit", *every, "--ckpt_path", folders[0] / "checkpoints/last.ckpt") == 0
    assert lowrank("fit", *every, "--trainer.max_steps", 6, "--ckpt_path", folders[1] / "checkpoints/last.ckpt") == 0
    assert {path: path.read_bytes() for path in folders[0].rglob("*") if path.is_file()} == before
    assert lowrank("fit", *every, "--trainer.max_steps", 6) == 0
    for tag in ("train/loss", "train/learning_rate", "val/psnr", "watch/rank/encoder_level1.0.attn"):
        assert curve(folders[2], tag) == curve(folders[3], tag), tag
    assert [step for step, _ in curve(folders[2], "train/loss")] == [0, 1, 2, 3, 4, 5]
    assert [step for step, _ in curve(folders[2], "val/psnr")] == [1, 3, 5]
    assert [step for step, _ in curve(folders[2], "watch/rank/encoder_level1.0.attn")] == [2, 4, 6]
    # Pictures are not copied.
    assert [image.step for image in read(folders[2]).Images("val/val/val0")] == [6]
    assert all((folder / name).is_file() for folder in folders for name in ("config.yaml", "run.json", "train.log"))


def test_steps_that_a_killed_run_took_after_its_checkpoint_are_not_repeated(tmp_path):
    before, after = (RunLogger(tmp_path, name="", version=name) for name in ("before", "after"))
    for step in range(5):
        before.log_metrics({"train/loss": 10.0 - step, "epoch": 0}, step)
        before.log_metrics({"val/psnr": 20.0 + step}, step)
    before.finalize("failed")
    # As a run leaves it that is killed while it writes.
    [file] = Path(before.log_dir).glob("events.*")
    file.write_bytes(file.read_bytes()[:-3])
    after.repeat(Path(before.log_dir), 3)
    after.log_metrics({"train/loss": 7.0}, 3)
    after.finalize("success")
    assert curve(Path(after.log_dir), "train/loss") == [(0, 10), (1, 9), (2, 8), (3, 7)]
    assert curve(Path(after.log_dir), "val/psnr") == [(0, 20), (1, 21), (2, 22)]
    assert set(read(Path(after.log_dir)).Tags()["scalars"]) == {"train/loss", "val/psnr"}


def test_times_are_those_of_the_earlier_run(tmp_path):
    before, after = (RunLogger(tmp_path, name="", version=name) for name in ("before", "after"))
    before.log_metrics({"train/loss": 1.0}, 0)
    before.finalize("success")
    after.repeat(Path(before.log_dir), 1)
    after.finalize("success")
    first, second = (read(Path(logger.log_dir)).Scalars("train/loss")[0] for logger in (before, after))
    assert first.wall_time == second.wall_time


def test_a_test_leaves_no_event_file(lowrank, recipe, tmp_path):
    assert lowrank("test", "--config", recipe) == 0
    assert (tmp_path / "logs/run/version_0/metrics.json").is_file()
    assert not list(tmp_path.rglob("events.*"))


def test_a_test_that_fails_leaves_no_event_file(lowrank, recipe, tmp_path):
    assert lowrank("test", "--config", recipe, "--data.test_input", tmp_path / "nothing") == 2
    assert not list(tmp_path.rglob("events.*"))


def test_a_validation_of_its_own_shows_scores_and_pictures_without_the_epoch(lowrank, recipe, tmp_path):
    assert lowrank("validate", "--config", recipe) == 0
    tags = read(tmp_path / "logs/run/version_0").Tags()
    assert "val/psnr" in tags["scalars"]
    assert "epoch" not in tags["scalars"]
    assert tags["images"]


def test_the_saved_recipe_keeps_the_name_of_lightning_s_logger(lowrank, recipe, tmp_path):
    assert lowrank("fit", "--config", recipe) == 0
    saved = (tmp_path / "logs/run/version_0/config.yaml").read_text()
    assert "class_path: lightning.pytorch.loggers.TensorBoardLogger" in saved
    assert "RunLogger" not in saved


@pytest.mark.parametrize("steps", [None, 0, 2])
def test_one_image_is_checked_before_training_unless_the_recipe_says_how_many(lowrank, recipe, monkeypatch, steps):
    from trainers import RestorationTask

    names: list[str] = []
    restore = RestorationTask.restore

    def noted(task: RestorationTask, batch: dict) -> list[torch.Tensor]:
        if task.trainer.sanity_checking:
            names.extend(batch["name"])
        return restore(task, batch)

    monkeypatch.setattr(RestorationTask, "restore", noted)
    options = [] if steps is None else ["--trainer.num_sanity_val_steps", steps]
    assert lowrank("fit", "--config", recipe, *options) == 0
    assert names == ["val0", "val1"][: 1 if steps is None else steps]
