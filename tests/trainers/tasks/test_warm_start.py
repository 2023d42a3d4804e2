"""A warm start: GLMHA is started from dense weights and distilled."""

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import glmha
from glmha.shared.checkpoint_files import read
from tests.trainers.small_networks import last, objective, restormer
from trainers import WarmStartTask
from trainers.tuning.distillation import attentions


@pytest.fixture
def warm(recipe: Path, tmp_path: Path) -> Path:
    """The common recipe, made one of a warm start."""
    torch.save({"params": restormer().state_dict()}, tmp_path / "restormer.pth")
    config = yaml.safe_load(recipe.read_text())
    arguments = config["model"]["init_args"]
    attention = arguments.pop("net")["init_args"]["attention"]
    config["model"]["class_path"] = "trainers.WarmStartTask"
    arguments |= {"pretrained": str(tmp_path / "restormer.pth"), "attention": attention, "calibration": 2}
    recipe.write_text(yaml.safe_dump(config))
    return recipe


@pytest.mark.slow
def test_glmha_is_started_from_dense_weights_and_distilled(lowrank, warm, tmp_path, monkeypatch):
    starts = []
    take = WarmStartTask.take
    monkeypatch.setattr(WarmStartTask, "take", lambda task, weights: (starts.append(weights), take(task, weights))[1])
    assert lowrank("fit", "--config", warm, "--trainer.max_steps", 2) == 0
    [start] = starts
    dense = restormer().state_dict()
    shared = [key for key in start if ".attn." not in key]
    assert all((start[key] == dense[key]).all() for key in shared)
    checkpoint = last(tmp_path / "logs")
    net = glmha.load_pretrained(checkpoint)
    assert isinstance(net.encoder_level1[0].attn, glmha.GLMHA)
    assert read(checkpoint)["state_dict"].keys() == {f"net.{key}" for key in net.state_dict()}
    # A run that goes on, or is evaluated, does not start once more.
    assert lowrank("fit", "--config", warm, "--ckpt_path", checkpoint) == 0
    assert lowrank("test", "--config", warm, "--ckpt_path", checkpoint) == 0
    assert len(starts) == 1


def test_a_warm_start_without_checkpoint_or_patches_is_refused(lowrank, warm, capsys):
    assert lowrank("test", "--config", warm) == 2
    assert "ckpt_path must be a checkpoint" in capsys.readouterr().err
    assert lowrank("fit", "--config", warm, "--model.calibration", 0) == 2
    assert "calibration (0) must be at least 1" in capsys.readouterr().err


def test_warm_started_attentions_are_compared_with_their_teachers(tmp_path):
    torch.save(restormer().state_dict(), tmp_path / "net.pth")
    task = WarmStartTask(tmp_path / "net.pth", glmha.GLMHA, ground_truth=0.0)
    assert isinstance(task.net, nn.Module)
    objective(task).backward()
    assert task.logged["train/teacher_attention"] > 0
    assert len(attentions(task.net)) == len(attentions(task.teacher)) == 8


def test_weights_that_a_start_lacks_are_named(tmp_path):
    torch.save(restormer().state_dict(), tmp_path / "released.pth")
    for trainable in ("all", "adapters"):
        task = WarmStartTask(tmp_path / "released.pth", glmha.GLMHA, trainable=trainable)
        weights = restormer(glmha.GLMHA).state_dict()
        task.take(weights)
        del weights["output.weight"]
        with pytest.raises(ValueError, match=r"must be those of Restormer, got output\.weight \(absent where"):
            task.take(weights)
