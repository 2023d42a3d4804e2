"""Recipes of fine-tuning train and test networks of every host."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from glmha import (
    Restormer,
)
from nystra.hosts.dehazeformer.network import DehazeFormer
from nystra.hosts.swinir.network import SwinIR
from nystra.hosts.uformer.network import Uformer
from tests.trainers.recipes.shrinking import (
    FINETUNING,
    SHRUNK_DATA,
    SHRUNK_NET,
    SHRUNK_RUN,
    enlarged,
    name,
    options,
    slow,
)

Lowrank = Callable[..., int]


# What recipes of fine-tuning start from: the network of each, shrunk; windows as large as the recipe's kernels need.
SMALL = {
    "dehazeformer": lambda: DehazeFormer(
        embed_dims=(4, 8, 8, 8, 4), depths=(1, 1, 1, 1, 1), num_heads=(1, 1, 1, 1, 1), attn_ratio=(0, 0, 1, 0, 0)
    ),
    "swinir": lambda: SwinIR(
        upscale=2, img_size=16, embed_dim=4, depths=[1], num_heads=[1], mlp_ratio=1.0, upsampler="pixelshuffle"
    ),
    "uformer": lambda: Uformer(img_size=128, embed_dim=4, depths=[1] * 9, num_heads=[1] * 9, win_size=8),
    "restormer": lambda: Restormer(**SHRUNK_NET),
}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", slow(FINETUNING, "restormer_glmha", "uformer_sidd"), ids=name)
def test_recipes_of_fine_tuning_train_and_test(lowrank: Lowrank, recipe: Path, pairs: Path, tmp_path: Path):
    if "adapters" in recipe.read_text():
        pytest.importorskip("peft")
    torch.manual_seed(0)
    torch.save({"params": SMALL[recipe.stem.partition("_")[0]]().state_dict()}, tmp_path / "released.pth")
    config = yaml.safe_load(recipe.read_text())
    # Its own task, losses and kernels; pairs in folders in the place of the recipe's downloads.
    scale = config["data"]["init_args"].get("scale", 1)
    config["data"] = {"class_path": "datamodules.PairedFolderDataModule", "init_args": {"scale": scale}}
    for metric in config["model"]["init_args"].get("metrics", []):
        metric.get("init_args", {}).pop("border", None)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(config))
    folders = {}
    for split in ("train", "val", "test"):
        for kind in ("input", "target"):
            # Large enough for any window.
            factor = 4 * scale if kind == "target" else 4
            folder = enlarged(pairs / split / kind, tmp_path / f"{split}_{kind}", factor)
            folders[f"{split}_{kind}"] = folder
    arguments = ["--config", tmp_path / "recipe.yaml", "--model.pretrained", tmp_path / "released.pth"]
    patch = {"dehazeformer": 64, "uformer": 128}.get(recipe.stem.partition("_")[0], 16)
    arguments += [*options("trainer", SHRUNK_RUN), *options("data", SHRUNK_DATA | folders | {"patch_size": patch})]
    if "kernel_schedule" in config["model"]["init_args"]:
        # Its second kernel, too.
        [later] = config["model"]["init_args"]["kernel_schedule"].values()
        arguments += ["--model.kernel_schedule", json.dumps({1: later})]
    assert lowrank("fit", *arguments, "--best_checkpoint.save_top_k", 0) == 0
    [last] = Path.cwd().rglob("last.ckpt")
    assert lowrank("test", "--config", last.parents[1] / "config.yaml", "--ckpt_path", last) == 0


def test_recipes_of_fine_tuning_are_of_every_host():
    assert {recipe.stem.partition("_")[0] for recipe in FINETUNING} == SMALL.keys()
