"""Recipes say what the papers and upstream say."""

from pathlib import Path

import pytest
import torch
import yaml

from datamodules import RestorationDataModule
from glmha import (
    GLMHA,
    ChannelAttention,
    Restormer,
)
from tests.trainers.recipes.shrinking import CONFIGS, PARTS, RECIPES, TRAINING, name


def test_arad_is_measured_without_its_border():
    for recipe in RECIPES:
        if "ntire" in recipe.stem:
            metrics = yaml.safe_load(recipe.read_text())["model"]["init_args"]["metrics"]
            assert {metric["init_args"]["border"] for metric in metrics} == {128}


@pytest.mark.parametrize("part", PARTS, ids=name)
def test_parts_are_used_by_a_recipe(part: Path):
    assert any(f"../{name(part)}" in recipe.read_text() for recipe in RECIPES)


@pytest.mark.parametrize(("attention", "parameters"), [("csa", 26.13e6), ("glmha", 24.47e6)])
def test_restormer_has_its_published_size(attention: str, parameters: float):
    config = yaml.safe_load((CONFIGS / "net/restormer.yaml").read_text())
    arguments = config["init_args"]
    assert config["class_path"] == "glmha.Restormer"
    assert arguments.pop("attention") == "glmha.ChannelAttention"
    part = yaml.safe_load((CONFIGS / "attention/glmha.yaml").read_text())
    chosen = part["model"]["init_args"]["net"]["init_args"]["attention"]["init_args"]
    factory = ChannelAttention if attention == "csa" else lambda c, h: GLMHA(c, h, **chosen)
    with torch.device("meta"):
        net = Restormer(**arguments, attention=factory)
    assert sum(parameter.numel() for parameter in net.parameters()) == pytest.approx(parameters, rel=5e-4)


def twin_difference(first: Path, second: Path) -> list[str]:
    lines = [
        [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
        for path in (first, second)
    ]
    return [line for line in lines[0] if line not in lines[1]]


@pytest.mark.parametrize("recipe", [path for path in TRAINING if path.stem.endswith("csa")], ids=name)
def test_twins_differ_in_attention_and_log_folder_only(recipe: Path):
    twin = recipe.with_name(recipe.name.replace("csa", "glmha"))
    for difference in twin_difference(recipe, twin):
        assert difference.split(":")[0].strip() in ("attention", "name", "net")


def test_the_data_of_recipes_are_data_modules_of_ours():
    for recipe in RECIPES:
        data = yaml.safe_load(recipe.read_text())["data"]
        part = yaml.safe_load((recipe.parent / data).read_text()) if isinstance(data, str) else data
        module = __import__("datamodules", fromlist=["x"])
        assert issubclass(getattr(module, part["class_path"].split(".")[1]), RestorationDataModule)


@pytest.mark.parametrize("recipe", TRAINING, ids=name)
def test_other_optimisers_than_the_default_say_their_weight_decay(recipe: Path):
    # Where only the class is changed, AdamW's 0.01 stays: L2 regularisation that no MST was trained with.
    optimizer = yaml.safe_load(recipe.read_text())["model"]["init_args"].get("optimizer", {})
    assert optimizer.get("class_path") in (None, "torch.optim.AdamW") or "weight_decay" in optimizer["init_args"]
