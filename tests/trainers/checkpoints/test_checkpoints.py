"""Checkpoints are complete or absent, and the best and the last are kept."""

import errno
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import pytest
import torch
import yaml

from tests.trainers.checkpoints.interrupting import load
from trainers.checkpoints.atomic_io import AtomicCheckpointIO, CheckpointWriteError
from trainers.checkpoints.best import BestCheckpoint
from trainers.checkpoints.last import LastCheckpoint
from trainers.runs.run import read_run


def full_disk(monkeypatch: pytest.MonkeyPatch, *, from_write: int) -> None:
    """Let writing checkpoints fail halfway, from the given one on."""
    save, writes = torch.save, iter(range(1, 100))

    def save_half(checkpoint: object, file: BinaryIO) -> None:
        save(checkpoint, file)
        if next(writes) >= from_write:
            file.truncate(file.tell() // 2)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("trainers.checkpoints.atomic_io.torch.save", save_half)


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path: Path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    full_disk(monkeypatch, from_write=1)
    with pytest.raises(CheckpointWriteError, match=r"last.ckpt\) must be writable, got: No space left on device"):
        AtomicCheckpointIO().save_checkpoint({"step": 2}, path)
    assert load(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_was_renamed_gets_its_name_back_when_the_next_cannot_be_written(tmp_path: Path):
    class FullDisk:
        fast_dev_run, global_step, is_global_zero = False, 2, True

        def save_checkpoint(self, path: Path) -> None:
            path.mkdir()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    last = LastCheckpoint()
    last._folder, last.saved, last.saved_step = tmp_path, tmp_path / "checkpoints/last.ckpt", 1
    last.saved.mkdir(parents=True)
    (last.saved / "part").touch()
    with pytest.raises(OSError, match="No space left"):
        last._save(FullDisk())
    assert list(last.saved.parent.rglob("*")) == [last.saved, last.saved / "part"]


def test_a_disk_that_fills_up_beneath_torch_s_own_writer_is_recognised(tmp_path: Path, monkeypatch):
    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def flush(self) -> None:
            pass

    save = torch.save
    monkeypatch.setattr("trainers.checkpoints.atomic_io.torch.save", lambda checkpoint, file: save(checkpoint, Full()))
    with pytest.raises(CheckpointWriteError, match="No space left on device"):
        AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(1000)}, tmp_path / "last.ckpt")


def test_an_error_that_is_no_disk_s_stays_what_it_is(tmp_path: Path):
    with pytest.raises((AttributeError, TypeError), match=r"lambda|pickle"):
        AtomicCheckpointIO().save_checkpoint({"weights": lambda: None}, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


def test_a_run_ends_with_one_message_when_the_disk_is_full(lowrank, recipe, tmp_path, monkeypatch, capsys):
    full_disk(monkeypatch, from_write=2)
    options = ["--best_checkpoint.save_top_k", 0, "--last_checkpoint.every_n_train_steps", 1]
    assert lowrank("fit", "--config", recipe, *options) == 2
    last = next(tmp_path.rglob("last.ckpt"))
    assert load(last)["global_step"] == 1
    assert list(last.parent.iterdir()) == [last]
    assert read_run(last.parents[1]).state == "failed"
    message = capsys.readouterr().err
    assert message.startswith("error: checkpoint (")
    assert "No space left on device" in message
    assert f"lowrank fit --config {last.parents[1] / 'config.yaml'} --ckpt_path {last}" in message


def test_the_best_and_the_last_are_kept(lowrank, recipe, tmp_path, capsys):
    assert lowrank("fit", "--config", recipe, "--trainer.max_steps", 8) == 0
    folder = next(tmp_path.rglob("checkpoints"))
    # Validation comes after steps 4 and 8 (two epochs of two steps each).
    names = {path.name for path in folder.iterdir()}
    assert {name for name in names if name.startswith("last")} == {"last.ckpt", "last-step=4.ckpt"}
    assert names - {"last.ckpt", "last-step=4.ckpt"} in ({"best-step=4.ckpt"}, {"best-step=8.ckpt"})
    assert [load(folder / name)["global_step"] for name in ("last.ckpt", "last-step=4.ckpt")] == [8, 4]
    printed = capsys.readouterr().out
    assert f"log folder: {folder.parent}" in printed
    assert "best checkpoint: " in printed


def demo_data(recipe: Path) -> Path:
    """The recipe with the demonstration's data: epochs of five batches."""
    config = yaml.safe_load(recipe.read_text())
    options = {"patch_size": 16, "batch_size": 2, "epoch_length": 10, "eval_size": 16}
    config["data"] = {"class_path": "datamodules.DemoDataModule", "init_args": options}
    recipe.write_text(yaml.safe_dump(config))
    return recipe


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("pairs", ["--trainer.val_check_interval", 1, "--trainer.check_val_every_n_epoch", 1]),
        pytest.param("demo", [], marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_ends_in_the_weights_of_the_straight_one(lowrank, recipe, tmp_path, kind, options):
    if kind == "demo":
        demo_data(recipe)
    fit = ["fit", "--config", recipe, *options]
    assert lowrank(*fit, "--trainer.max_steps", 9) == 0
    # Twice within an epoch.
    for steps in (3, 7, 9):
        resume = [] if steps == 3 else ["--ckpt_path", "last"]
        name = ["--trainer.logger.init_args.name", "resumed"]
        assert lowrank(*fit, "--trainer.max_steps", steps, *resume, *name) == 0
    straight, resumed = (
        load(tmp_path / f"logs/{name}/checkpoints/last.ckpt") for name in ("run/version_0", "resumed/version_2")
    )
    assert straight["global_step"] == resumed["global_step"] == 9
    for kind_ in ("state_dict", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(resumed[kind_], straight[kind_], rtol=0, atol=0)


def test_last_and_best_are_those_of_the_recipe_s_newest_run(lowrank, recipe, tmp_path, capsys):
    for arguments in (["fit", "--ckpt_path", "last"], ["predict", "--ckpt_path", "best"]):
        assert lowrank(arguments[0], "--config", recipe, *arguments[1:]) == 2
        message = capsys.readouterr().err
        assert message.startswith(f"error: ckpt_path ({arguments[2]}) must have been kept by an earlier run")
        assert f"below {tmp_path / 'logs/run'}" in message
    assert not (tmp_path / "logs").exists()
    assert lowrank("fit", "--config", recipe, "--best_checkpoint.save_top_k", -1, "--trainer.max_steps", 8) == 0
    best = re.search(r"best checkpoint: (\S+)", capsys.readouterr().out)
    assert best is not None
    # Another recipe's newer run is not this one's.
    name = ["--trainer.logger.init_args.name", "other"]
    assert lowrank("fit", "--config", recipe, "--trainer.max_steps", 1, *name) == 0
    for kind, expected in (("last", tmp_path / "logs/run/version_0/checkpoints/last.ckpt"), ("best", Path(best[1]))):
        assert lowrank("test", "--config", recipe, "--ckpt_path", kind) == 0
        run = max((tmp_path / "logs/run").iterdir(), key=lambda folder: folder.stat().st_mtime)
        assert yaml.safe_load((run / "metrics.json").read_text())["weights"]["path"] == str(expected)
        assert yaml.safe_load((run / "config.yaml").read_text())["ckpt_path"] == str(expected)


def test_best_scores_of_a_run_that_was_moved_count_as_far_as_its_files_are_found(tmp_path: Path, caplog):
    before, now = (tmp_path / name / "version_0/checkpoints" for name in ("before", "now"))
    now.mkdir(parents=True)
    (now / "best-step=2.ckpt").touch()
    scores = {
        str(before / "best-step=2.ckpt"): torch.tensor(20.0),
        str(before / "best-step=4.ckpt"): torch.tensor(21.0),
    }
    saved = BestCheckpoint(save_top_k=2)
    saved.dirpath, saved.best_k_models = str(before), scores
    saved.best_model_path, saved.best_model_score = str(before / "best-step=4.ckpt"), torch.tensor(21.0)
    resumed = BestCheckpoint(save_top_k=2)
    resumed.on_load_checkpoint(SimpleNamespace(ckpt_path=now.with_name("last.ckpt")), None, {})
    resumed.load_state_dict(saved.state_dict())
    assert (resumed.best_model_score, resumed.best_k_models) == (None, {})
    assert caplog.text.count("(val/psnr 2") == 2
    caplog.clear()
    resumed.on_load_checkpoint(SimpleNamespace(ckpt_path=now / "last.ckpt"), None, {})
    resumed.load_state_dict(saved.state_dict())
    assert resumed.best_k_models == {str(now / "best-step=2.ckpt"): 20}
    assert (resumed.best_model_path, resumed.best_model_score) == (str(now / "best-step=2.ckpt"), 20)
    assert "best-step=4.ckpt (val/psnr 21)" in caplog.text
    assert "best-step=2" not in caplog.text
