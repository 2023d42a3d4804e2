"""The command line on an accelerator: an image is restored, every task trains, and a run goes on where it stopped."""

from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from datamodules.files.images import read_image
from tests.devices import accelerator_cases
from tests.trainers.small_networks import last, restormer, swinir
from trainers.cli.main import main

NETS = {"restormer": restormer, "swinir": swinir}
TASKS: dict[str, dict[str, Any]] = {
    "RestorationTask": {},
    "SubstitutionTask": {
        "net": None,
        "pretrained": "net.safetensors",
        "kernel": {"class_path": "nystra.LandmarkPooling", "init_args": {"landmarks": 4, "cells": 4}},
    },
}


def save(name: str) -> None:
    """Write a network's checkpoint into the working directory."""
    save_file({key: each.contiguous() for key, each in NETS[name]().state_dict().items()}, "net.safetensors")


@pytest.mark.parametrize(("device", "net"), accelerator_cases(*NETS))
def test_restored_pixels_are_those_of_the_processor(device, net, pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(net)
    picture = next((pairs / "test/input").iterdir())
    for name in ("cpu", device):
        arguments = [str(picture), "--pretrained", "net.safetensors", "--device", name, "--output", name]
        assert main(["restore", *arguments, "--tile", "16", "--overlap", "8"]) == 0
    here, there = (read_image(tmp_path / name / picture.name).astype(int) for name in ("cpu", device))
    assert np.abs(here - there).max() <= 1


@pytest.mark.parametrize(("device", "task"), accelerator_cases(*TASKS))
def test_a_task_trains_and_goes_on(device, task, recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save("swinir")
    config = yaml.safe_load(recipe.read_text())
    config["trainer"]["accelerator"] = device
    options = config["model"]["init_args"] | TASKS[task]
    config["model"] = {
        "class_path": f"trainers.{task}",
        "init_args": {name: value for name, value in options.items() if value is not None},
    }
    recipe.write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", str(recipe), "--trainer.max_steps", "2"]) == 0
    assert main(["fit", "--config", str(recipe), "--ckpt_path", "auto", "--trainer.max_steps", "4"]) == 0
    checkpoint = torch.load(last(tmp_path), weights_only=True, map_location="cpu")
    assert checkpoint["global_step"] == 4
    assert all(torch.isfinite(each).all() for each in checkpoint["state_dict"].values() if each.is_floating_point())
