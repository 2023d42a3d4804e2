"""A run from Python: the weights, records and endings of the command."""

import json
import os
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import Callback

import glmha
import trainers
from datamodules import PairedFolderDataModule
from trainers.checkpoints.best import BestCheckpoint
from trainers.checkpoints.last import LastCheckpoint
from trainers.tiling.restoration import restore


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def train(pairs, tmp_path):
    """The recipe of `conftest.recipe`, put together in Python."""

    def train(name: str, **options) -> trainers.FinishedRun:
        seed_everything(3, verbose=False)
        net = glmha.Restormer(
            dim=4,
            num_blocks=[1] * 4,
            num_refinement_blocks=1,
            heads=[1, 1, 2, 2],
            attention=partial(glmha.GLMHA, reduction=0.5, alpha=0.7),
        )
        task = trainers.RestorationTask(
            net,
            optimizer=partial(torch.optim.AdamW, lr=1e-3),
            scheduler=partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=4),
        )
        folders = {
            f"{split}_{kind}": pairs / split / kind
            for split in ("train", "val", "test")
            for kind in ("input", "target")
        }
        data = PairedFolderDataModule(**folders, patch_size=16, batch_size=2, num_workers=0)
        shared = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1, "max_steps": 4}
        shared |= {"check_val_every_n_epoch": 2, "logs": tmp_path / "logs", "seed": 3, "name": name}
        return trainers.run(task, data, **{**shared, **options})

    return train


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def assert_equal_bits(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(first, second, rtol=0, atol=0)


class Interrupting(Callback):
    """Presses Ctrl-C in the third step."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)


def test_it_gives_what_the_command_gives(train, lowrank, recipe, tmp_path, capsys):
    finished = train("python")
    printed = capsys.readouterr().out
    assert lowrank("fit", "--config", recipe) == 0
    command = tmp_path / "logs/run/version_0"
    assert_equal_bits(weights(finished.folder), weights(command))
    assert finished.folder == tmp_path / "logs/python/version_0"
    names = {path.name for path in command.rglob("*") if "tfevents" not in path.name} - {"config.yaml"}
    assert {path.name for path in finished.folder.rglob("*") if "tfevents" not in path.name} == names
    assert list(finished.folder.glob("*tfevents*"))
    record = json.loads((finished.folder / "run.json").read_text())
    assert (record["state"], record["step"], record["monitor"]) == ("finished", 4, "val/psnr")
    # No command is offered that would need a config.yaml.
    assert f"last checkpoint: {finished.folder}/checkpoints/last.ckpt (step 4)" in printed
    assert "lowrank restore" in printed
    assert "lowrank test" not in printed


def test_a_shorter_run_is_resumed_to_the_same_bits(train):
    straight = weights(train("straight").folder)
    train("parts", max_steps=3, ckpt_path="auto")
    resumed = train("parts", ckpt_path="auto")
    assert resumed.folder.name == "version_1"
    assert json.loads((resumed.folder / "run.json").read_text())["resumed_from"].endswith(
        "version_0/checkpoints/last.ckpt"
    )
    assert_equal_bits(weights(resumed.folder), straight)


def test_ctrl_c_saves_and_says_how_to_go_on(train, capsys):
    straight = weights(train("straight").folder)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as interruption:
        train("stopped", callbacks=[Interrupting()])
    assert signal.getsignal(signal.SIGINT) is handler
    assert "finishing this step" in capsys.readouterr().err
    [note] = interruption.value.__notes__
    path = note.split(" is ")[1].split(";")[0]
    assert f"trainers.run(task, data, ckpt_path={path!r}, ...)" in note
    assert json.loads((Path(path).parents[1] / "run.json").read_text())["state"] == "interrupted"
    assert_equal_bits(weights(train("stopped", ckpt_path=path).folder), straight)


def test_what_is_kept_can_be_chosen(train):
    finished = train(
        "kept",
        best_checkpoint=BestCheckpoint(monitor="val/ssim", save_top_k=-1),
        last_checkpoint=LastCheckpoint(every_n_train_steps=1, keep_last=4),
        ema_decay=0.5,
    )
    assert len(list((finished.folder / "checkpoints").glob("last*"))) == 4
    assert json.loads((finished.folder / "run.json").read_text())["monitor"] == "val/ssim"
    checkpoint = torch.load(finished.folder / "checkpoints/last.ckpt", weights_only=True)
    average, trained = checkpoint["state_dict"], checkpoint["current_model_state"]
    assert any(not torch.equal(average[key], value) for key, value in trained.items() if key in average)


def test_without_checkpoints_none_is_written(train):
    assert not list(train("none", enable_checkpointing=False).folder.rglob("*.ckpt"))


def test_what_cannot_be_resumed_is_refused_before_there_is_a_folder(train, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ckpt_path \(last\) must have been kept by an earlier run"):
        train("absent", ckpt_path="last")
    path = train("ended").folder / "checkpoints" / "last.ckpt"
    with pytest.raises(ValueError, match=r"trainer.max_steps \(4\) must be above the 4 steps"):
        train("ended", ckpt_path=path)
    assert not (tmp_path / "logs/absent").exists()
    assert not (tmp_path / "logs/ended/version_1").exists()


def test_the_trainer_tests_and_the_checkpoint_restores(train):
    finished = train("used")
    trainer = finished.trainer
    checkpoint = finished.folder / "checkpoints" / "last.ckpt"
    [scores] = trainer.test(trainer.lightning_module, trainer.datamodule, ckpt_path=checkpoint, verbose=False)
    assert scores["test/psnr"] > 5
    net = glmha.load_pretrained(checkpoint)
    image = torch.rand(3, 20, 30)
    torch.testing.assert_close(
        restore(net, image, tile=None, overlap=0),
        restore(trainer.lightning_module.net.eval(), image, tile=None, overlap=0),
    )
