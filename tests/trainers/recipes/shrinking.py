"""Recipes by their kind, and the options that shrink them to a few steps on a few pixels."""

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from datamodules.files.images import read_image, write_image

CONFIGS = Path(str(files("configs")))
PARTS = sorted(path for folder in ("net", "data") for path in (CONFIGS / folder).glob("*.yaml"))
COMPARISONS = sorted((CONFIGS / "nystra").glob("*.yaml"))
# What is given with a recipe, after it.
ATTENTIONS = sorted((CONFIGS / "attention").glob("*.yaml"))
RECIPES = sorted(set(CONFIGS.rglob("*.yaml")) - set(PARTS) - set(COMPARISONS) - set(ATTENTIONS))
FINETUNING = sorted((CONFIGS / "finetune").glob("*.yaml"))
OWN = sorted((CONFIGS / "train").glob("*.yaml"))
# Networks of clips.
VIDEO = sorted((CONFIGS / "video").glob("*.yaml"))
TRAINING = [path for path in RECIPES if "eval" not in path.parts and path not in (*FINETUNING, *OWN, *VIDEO)]

# One block a level, four channels: the structure stays the recipe's.
SHRUNK_NET = {"dim": 4, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1, "heads": [1, 1, 2, 2]}
# Those of other classes: one stage or one block a level (channels are the data's bands), four channels.
SHRUNK_NETS = {
    "glmha.MSTPlusPlus": {"stage": 1},
    "glmha.MST": {"num_blocks": [1, 1, 1]},
    "nystra.hosts.swinir.SwinIR": {"img_size": 16, "embed_dim": 4},
    "nystra.hosts.rvrt.RVRT": {"num_blocks": [1, 1, 1], "depths": [1, 1, 1], "embed_dims": [4, 4, 4]},
}
SHRUNK_RUN = {
    "accelerator": "cpu",
    "max_steps": 2,
    "accumulate_grad_batches": 1,
    "log_every_n_steps": 1,
    "val_check_interval": 2,
    "check_val_every_n_epoch": "null",
    "enable_progress_bar": "false",
}
SHRUNK_DATA = {"patch_size": 16, "batch_size": 2, "num_workers": 0}


def slow(recipes: Sequence[Path], *names: str) -> list[Any]:
    """Recipes, those of the names marked slow: others stand for them in every run of the tests."""
    return [pytest.param(path, marks=pytest.mark.slow) if path.stem in names else path for path in recipes]


def name(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def options(prefix: str, values: dict[str, Any]) -> list[str]:
    return [text for key, value in values.items() for text in (f"--{prefix}.{key}", str(value))]


def overrides(recipe: Path, folder: Path) -> list[str]:
    """Shrink a recipe; point it at `folder` if its data have to be downloaded."""
    data = SHRUNK_DATA.copy()
    if "demo" in recipe.parts:
        # Held-out clips that are enlarged are larger than images.
        data |= {"epoch_length": 4, "eval_size": 16 if "VideoDemo" not in recipe.read_text() else 32}
    else:
        data |= {"root": folder}
    model = yaml.safe_load(recipe.read_text())["model"]["init_args"]
    net = SHRUNK_NETS.get(model["net"]["class_path"], SHRUNK_NET) if "class_path" in model["net"] else SHRUNK_NET
    borders = metrics_without_border(model.get("metrics", []))
    return [*options("model.net", net), *options("trainer", SHRUNK_RUN), *options("data", data), *borders]


def metrics_without_border(metrics: list[dict[str, Any]]) -> list[str]:
    """Where metrics leave out more than there is of small images, the same ones without a border."""
    if not any("border" in metric.get("init_args", {}) for metric in metrics):
        return []
    return ["--model.metrics", json.dumps([{**metric, "init_args": {"border": 0}} for metric in metrics])]


def enlarged(folder: Path, target: Path, scale: int) -> Path:
    """The images of a folder, each pixel repeated."""
    target.mkdir()
    for path in folder.iterdir():
        write_image(target / path.name, read_image(path).repeat(scale, 0).repeat(scale, 1))
    return target
