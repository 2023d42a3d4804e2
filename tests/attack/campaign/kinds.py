"""The kinds of inputs: which generator makes them, and which share of a campaign they have."""

import importlib
import os

import cv2
import torch

from tests.attack.inputs import checkpoints, files, images, options, recipes, records, runs, signals
from tests.attack.inputs.attack import Maker
from trainers.cli.verbs import FUNCTION_VERBS

MAKERS: dict[str, Maker] = {
    "checkpoints": checkpoints.make,
    "images": images.make,
    "recipes": recipes.make,
    "records": records.make,
    "checkpoints of runs": runs.make,
    "signals": signals.make,
    "file system": files.make,
    "options": options.make,
}
SHARES = {
    "checkpoints": 0.22,
    "images": 0.25,
    "recipes": 0.13,
    "records": 0.12,
    "checkpoints of runs": 0.07,
    "signals": 0.03,
    "file system": 0.08,
    "options": 0.10,
}
"""Parts of all inputs; what takes long has few."""
LAZY = (
    "trainers.recipes.lightning_cli",
    "trainers.recipes.training",
    "datamodules.restoration.folders",
    "lightning.pytorch.loggers",
    "tensorboard.compat.proto.event_pb2",
    "albumentations",
    "nystra.pretrained",
    "glmha.pretrained",
    "skimage.data",
)
"""Modules that commands import on use."""


def share_out(inputs: int) -> dict[str, int]:
    """Share a number of inputs out among the kinds, at least one each."""
    counts = {kind: max(1, round(inputs * share)) for kind, share in SHARES.items()}
    counts["images"] = max(1, counts["images"] + inputs - sum(counts.values()))
    return counts


def preload() -> None:
    """Import what commands import, so that a process forked off this one begins at once."""
    # Weights are fetched from addresses; here nothing may ask for one. The hub's client reads it when it is imported.
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Threads do not outlive a fork.
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    for name in (*LAZY, *(verb.module for verb in FUNCTION_VERBS.values())):
        importlib.import_module(name)
    # Kept by their functions, so that not every process makes them anew.
    images.sound()
    images.refused()
    checkpoints.sound()
