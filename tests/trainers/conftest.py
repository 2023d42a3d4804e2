"""Fixtures that tests of several folders of `trainers` share."""

from pathlib import Path

import pytest
import torch
import yaml

from tests.trainers.small_networks import swinir

POOLING = {"class_path": "nystra.LandmarkPooling", "init_args": {"landmarks": 4, "cells": 16, "near": "own"}}


@pytest.fixture
def released(tmp_path: Path) -> Path:
    path = tmp_path / "released.pth"
    torch.save({"params": swinir().state_dict()}, path)
    return path


@pytest.fixture
def tuning(recipe: Path, released: Path) -> Path:
    """The common recipe, made one of fine-tuning."""
    config = yaml.safe_load(recipe.read_text())
    options = {"pretrained": str(released), "kernel": POOLING, "window_size": 8, "position_bias": "interpolate"}
    config["model"]["class_path"] = "trainers.SubstitutionTask"
    del config["model"]["init_args"]["net"]
    config["model"]["init_args"] |= options
    recipe.write_text(yaml.safe_dump(config))
    return recipe
