"""Adapters reach every projection, are merged into plain weights, and are asked for where they are missing."""

import builtins

import pytest
import torch
from torch.testing import assert_close

import nystra
from glmha.shared.checkpoint_files import read
from tests.trainers.small_networks import batch, dehazeformer, last, swinir
from trainers import SubstitutionTask
from trainers.networks import load_network
from trainers.tuning.lora import projections


def test_adapters_reach_every_projection_and_are_merged(lowrank, tuning, tmp_path, released):
    pytest.importorskip("peft")
    assert len(projections(swinir())) == 4
    assert len(projections(dehazeformer())) == 6
    options = ["--model.trainable", "adapters", "--model.adapter_rank", 2]
    assert lowrank("fit", "--config", tuning, *options) == 0
    checkpoint = last(tmp_path / "logs")
    content = read(checkpoint)
    weights = {key.removeprefix("net."): value for key, value in content["state_dict"].items()}
    swinir().load_state_dict(weights, strict=True)
    original = swinir().state_dict()
    changed = {
        key for key, value in weights.items() if value.dtype.is_floating_point and (value != original[key]).any()
    }
    assert changed
    assert all(".qkv.weight" in key or "attn.proj.weight" in key for key in changed)
    for key in changed:
        assert torch.linalg.matrix_rank(weights[key] - original[key], atol=1e-6) <= 2
    # It goes on, from what it was.
    assert lowrank("fit", "--config", tuning, *options, "--trainer.max_steps", 6, "--ckpt_path", checkpoint) == 0
    assert lowrank("test", "--config", tuning, *options, "--ckpt_path", checkpoint) == 0
    task = SubstitutionTask(
        released,
        nystra.LandmarkPooling(4, 16, "own"),
        window_size=8,
        position_bias="interpolate",
        trainable="adapters",
        adapter_rank=2,
    )
    task.on_load_checkpoint(content)
    task.load_state_dict(content["state_dict"])
    with torch.no_grad():
        assert_close(task.net(batch()["input"]), load_network(checkpoint)(batch()["input"]))


def test_a_checkpoint_with_adapters_is_not_taken_for_one_without(released):
    task = SubstitutionTask(released)
    with pytest.raises(ValueError, match=r"trainable \(all\) must be as ckpt_path was trained, got a checkpoint with"):
        task.on_load_checkpoint({"state_dict": task.state_dict(), "adapted_state": {}})


def test_without_peft_adapters_say_what_to_install(released, monkeypatch):
    take = builtins.__import__

    def missing(name, *rest, **options):
        if name == "peft":
            raise ImportError(name)
        return take(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError, match=r'must have peft.*pip install --editable "\.\[finetune\]"'):
        SubstitutionTask(released, trainable="adapters")
