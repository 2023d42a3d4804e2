"""Fixtures that several tests share: tiny pairs of images, a recipe that trains on them, the command line."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from datamodules.files.images import write_image

# No test asks a server but its own, and some inputs are addresses.
os.environ["HF_HUB_OFFLINE"] = "1"
# Without a device Triton's programs are interpreted; it asks for that when they are first imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
# Tests run in several processes at once, each with tensors too small to share out.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A command that computes with more threads leaves none to the tests after it: on busy cores they spin."""
    yield
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A folder with train, val and test, each with input and target: noise on smooth images, 24×32 pixels."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        for kind in ("input", "target"):
            (tmp_path / "pairs" / split / kind).mkdir(parents=True)
        for index in range(count):
            ramps = np.linspace(0, 1, 24)[:, None, None] * np.linspace(1, 0, 32)[:, None] * rng.random(3)
            noisy = ramps + 0.1 * rng.standard_normal(ramps.shape)
            for kind, image in (("target", ramps), ("input", noisy)):
                pixels = (image.clip(0, 1) * 255).astype(np.uint8)
                write_image(tmp_path / "pairs" / split / kind / f"{split}{index}.png", pixels)
    return tmp_path / "pairs"


@pytest.fixture
def recipe(tmp_path: Path, pairs: Path) -> Path:
    """A recipe of four steps, one epoch, on `pairs`: a tiny Restormer with GLMHA, logging to `logs` beside it."""
    config: dict[str, Any] = {
        "seed_everything": 3,
        "trainer": {
            "accelerator": "cpu",
            "max_steps": 4,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "check_val_every_n_epoch": 2,
            "logger": {
                "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
                "init_args": {"save_dir": str(tmp_path / "logs"), "name": "run"},
            },
        },
        "model": {
            "class_path": "trainers.RestorationTask",
            "init_args": {
                "net": {
                    "class_path": "glmha.Restormer",
                    "init_args": {
                        "dim": 4,
                        "num_blocks": [1, 1, 1, 1],
                        "num_refinement_blocks": 1,
                        "heads": [1, 1, 2, 2],
                        "attention": {"class_path": "glmha.GLMHA", "init_args": {"reduction": 0.5, "alpha": 0.7}},
                    },
                },
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
                "scheduler": {
                    "class_path": "torch.optim.lr_scheduler.CosineAnnealingLR",
                    "init_args": {"T_max": 4},
                },
            },
        },
        "data": {
            "class_path": "datamodules.PairedFolderDataModule",
            "init_args": {
                **{
                    f"{split}_{kind}": str(pairs / split / kind)
                    for split in ("train", "val", "test")
                    for kind in ("input", "target")
                },
                "patch_size": 16,
                "batch_size": 2,
                "num_workers": 0,
            },
        },
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def lowrank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command line in this process, in an empty working directory; returns the exit status."""
    from trainers.cli.main import main

    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    # Lightning leaves its seed in the environment: monkeypatch takes that back.
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return lambda *arguments: main([str(argument) for argument in arguments])
