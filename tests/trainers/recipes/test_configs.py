"""Recipes train, test and parse, shrunk by overrides."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from glmha import (
    GLMHA,
    MST,
    CassiMSTPlusPlus,
    LinformerChannelAttention,
    MSTPlusPlus,
    PerformerChannelAttention,
    ReformerChannelAttention,
    Restormer,
)
from glmha.attention.recorded import decode_options
from tests.trainers.recipes.shrinking import (
    ATTENTIONS,
    CONFIGS,
    OWN,
    RECIPES,
    SHRUNK_NET,
    TRAINING,
    enlarged,
    metrics_without_border,
    name,
    overrides,
    slow,
)
from trainers import RestorationTask, SpectralTask, SubstitutionTask, WarmStartTask

Lowrank = Callable[..., int]

PAPER = sorted((CONFIGS / "glmha").glob("*.yaml"))
CLASSES = {
    "glmha": GLMHA,
    "linformer": LinformerChannelAttention,
    "performer": PerformerChannelAttention,
    "reformer": ReformerChannelAttention,
}


@pytest.mark.parametrize("recipe", slow(TRAINING, "rvrt"), ids=name)
def test_recipes_train_and_test(lowrank: Lowrank, recipe: Path, data: Path):
    arguments = ["--config", name(recipe), *overrides(recipe, data)]
    assert lowrank("fit", *arguments) == 0
    [last] = Path.cwd().rglob("last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 2
    # The score by which the recipe chooses the best checkpoint exists.
    assert list(last.parent.glob("best-*.ckpt"))
    assert lowrank("test", "--config", last.parents[1] / "config.yaml", "--ckpt_path", last) == 0
    assert list(Path.cwd().rglob("metrics.json"))


@pytest.mark.slow
@pytest.mark.parametrize("parts", [True, False], ids=["train, val and test", "two folders"])
@pytest.mark.parametrize("recipe", OWN, ids=name)
def test_recipes_of_own_images_train_on_a_folder(lowrank: Lowrank, recipe: Path, pairs: Path, parts: bool, caplog):
    scale = yaml.safe_load(recipe.read_text())["data"]["init_args"].get("scale", 1)
    for split in ("train", "val", "test"):
        large = enlarged(pairs / split / "target", pairs / split / "large", scale)
        shutil.rmtree(pairs / split / "target")
        large.rename(pairs / split / "target")
        if recipe.stem == "degraded":
            shutil.rmtree(pairs / split / "input")
            for image in (pairs / split / "target").iterdir():
                image.rename(pairs / split / image.name)
            (pairs / split / "target").rmdir()
    root = pairs if parts else pairs / "train"
    arguments = ["--config", name(recipe), *overrides(recipe, root), "--data.val_size", 16]
    assert lowrank("fit", *arguments) == 0
    [last] = Path.cwd().rglob("last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 2
    assert list(last.parent.glob("best-*.ckpt"))
    told = "validation: 1 of 4 training images are split off" in caplog.text
    assert told is not parts
    own = ["--config", last.parents[1] / "config.yaml", "--ckpt_path", last]
    assert lowrank("validate", *own) == 0
    [record] = Path.cwd().rglob("metrics.json")
    [data_set] = json.loads(record.read_text())["sets"]
    assert data_set == ("val-centre16" if parts else "train-val-centre16")
    assert lowrank("test", *own) == (0 if parts else 2)


@pytest.mark.parametrize("degradation", ["MotionBlur", "JPEGCompression", "Rain", "ShotNoise"])
def test_own_images_are_degraded_as_the_recipe_says_one_can_choose(lowrank: Lowrank, degradation: str, capsys):
    recipe = CONFIGS / "train/degraded.yaml"
    assert degradation in recipe.read_text()
    arguments = ["--config", name(recipe), "--data.root", "mine", "--data.degradation"]
    assert lowrank("fit", *arguments, f"datamodules.degradations.{degradation}", "--print_config") == 0
    chosen = yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["degradation"]
    assert chosen["class_path"] == f"datamodules.degradations.{degradation}"


def test_the_papers_tasks_and_attentions_are_there():
    assert [path.stem for path in PAPER] == ["mst_cassi", "mst_plus_plus_ntire", "restormer_gopro", "restormer_rain13k"]
    assert [path.stem for path in ATTENTIONS] == list(CLASSES)


@pytest.mark.parametrize("attention", ATTENTIONS, ids=name)
@pytest.mark.parametrize("recipe", slow(PAPER, "restormer_rain13k"), ids=name)
def test_every_task_of_the_paper_trains_with_every_attention(
    lowrank: Lowrank, recipe: Path, attention: Path, data: Path
):
    shrunk = [*overrides(recipe, data), "--trainer.max_steps", "1", "--trainer.limit_val_batches", "0"]
    both = ["--config", name(recipe), "--config", name(attention), *shrunk, "--best_checkpoint.save_top_k", "0"]
    assert lowrank("fit", *both) == 0
    [last] = Path.cwd().rglob("last.ckpt")
    assert last.is_relative_to(Path.cwd() / "logs" / attention.stem / recipe.stem)
    weights = torch.load(last, weights_only=True)["state_dict"]
    records = [decode_options(value)["class"] for key, value in weights.items() if key.endswith("_extra_state")]
    assert set(records) == {CLASSES[attention.stem].__name__}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [path for path in PAPER if path.stem.startswith("restormer")], ids=name)
def test_restormers_stages_are_upstreams(lowrank: Lowrank, recipe: Path, data: Path, capsys):
    assert lowrank("fit", "--config", name(recipe), "--print_config") == 0
    values = yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]
    stages = [{"start": 0, "patch_size": values["patch_size"], "batch_size": values["batch_size"]}, *values["stages"]]
    starts = [stage["start"] for stage in stages]
    lengths = [end - start for start, end in zip(starts, [*starts[1:], 300_000], strict=True)]
    assert lengths == [92_000, 64_000, 48_000, 36_000, 36_000, 24_000]
    assert [stage["patch_size"] for stage in stages] == [128, 160, 192, 256, 320, 384]
    assert [stage["batch_size"] for stage in stages] == [64, 40, 32, 16, 8, 8]
    # They reach the data module, and its sizes the network.
    arguments = ["--config", name(recipe), *overrides(recipe, data)]
    stage = "[{start: 1, patch_size: %d, batch_size: 1}]"
    assert lowrank("fit", *arguments, "--data.stages", stage % 20) == 2
    assert "patch_size (20) must be a multiple of 8" in capsys.readouterr().err
    assert lowrank("fit", *arguments, "--data.stages", stage % 24) == 0


def test_the_deraining_evaluation_needs_a_checkpoint_only(lowrank: Lowrank, data: Path, tmp_path: Path, capsys):
    net = Restormer(**SHRUNK_NET)
    torch.save({"params": net.state_dict()}, tmp_path / "deraining.pth")
    arguments = ["--config", "eval/rain13k.yaml", "--data.root", data, "--data.num_workers", 0]
    assert lowrank("test", *arguments) == 2
    assert "pretrained" in capsys.readouterr().err
    assert lowrank("test", *arguments, "--model.pretrained", tmp_path / "deraining.pth") == 0
    record = json.loads(next(Path.cwd().rglob("metrics.json")).read_text())
    assert record["sets"].keys() == {"Rain100H", "Rain100L"}
    assert record["metrics"]["psnr-y-rounded"] == "PSNR on MATLAB's rounded Y, uint8, border 0"


@pytest.mark.parametrize(
    ("kind", "make_net", "options"),
    [
        ("ntire2022", lambda: MSTPlusPlus(stage=1), []),
        ("cassi", lambda: MST(num_blocks=[1, 1, 1]), []),
        ("cassi", lambda: CassiMSTPlusPlus(stage=1), ["--data.net_mask", "plain"]),
    ],
    ids=["MST++", "MST", "MST++ for CASSI"],
)
def test_the_spectral_evaluations_need_a_checkpoint_only(
    lowrank: Lowrank, data: Path, tmp_path: Path, kind, make_net, options
):
    torch.save({"state_dict": make_net().state_dict()}, tmp_path / "net.pth")
    recipe = CONFIGS / "eval" / f"{kind}.yaml"
    metrics = yaml.safe_load(recipe.read_text())["model"]["init_args"]["metrics"]
    arguments = ["--config", name(recipe), "--data.root", data, "--data.num_workers", 0, *options]
    arguments += ["--model.pretrained", tmp_path / "net.pth", *metrics_without_border(metrics)]
    assert lowrank("test", *arguments) == 0
    record = json.loads(next(Path.cwd().rglob("metrics.json")).read_text())
    assert record["partial"] is True
    assert len(record["metrics"]) == len(metrics)
    assert all(math.isfinite(value) for value in record["average"].values())
    assert lowrank("predict", *arguments) == 0
    assert list(Path.cwd().rglob("images/*/*.mat"))


# Of recipes of clips some stand for the others, which differ in data and numbers.
LIKE_OTHERS = ("reds4", "udm10", "gopro_video", "dvd", "set8", "rvrt_dvd", "rvrt_gopro", "rvrt_davis")


@pytest.mark.parametrize("recipe", slow(RECIPES, *LIKE_OTHERS), ids=name)
def test_recipes_parse_at_full_size(recipe: Path, lowrank: Lowrank, capsys):
    assert lowrank("fit", "--config", name(recipe), "--print_config") == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["trainer"]["logger"]["init_args"]["name"]
    tasks = (RestorationTask, SpectralTask, SubstitutionTask, WarmStartTask)
    assert config["model"]["class_path"] in [f"trainers.{task.__name__}" for task in tasks]
