"""Every recipe and part under configs/ is instantiated and, shrunk by overrides, trained or tested for a few steps."""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from datamodules import RestorationDataModule
from datamodules.files.images import read_image, write_image
from glmha import (
    GLMHA,
    MST,
    CassiMSTPlusPlus,
    ChannelAttention,
    LinformerChannelAttention,
    MSTPlusPlus,
    PerformerChannelAttention,
    ReformerChannelAttention,
    Restormer,
)
from glmha.attention.recorded import decode_options
from nystra.hosts.dehazeformer.network import DehazeFormer
from nystra.hosts.swinir.network import SwinIR
from nystra.hosts.uformer.network import Uformer
from tests.spectral_data import write_arad, write_cassi
from trainers import RestorationTask, SpectralTask, SubstitutionTask, WarmStartTask

Lowrank = Callable[..., int]

CONFIGS = Path(str(files("configs")))
PARTS = sorted(path for folder in ("net", "data") for path in (CONFIGS / folder).glob("*.yaml"))
COMPARISONS = sorted((CONFIGS / "nystra").glob("*.yaml"))
# What is given with a recipe, after it.
ATTENTIONS = sorted((CONFIGS / "attention").glob("*.yaml"))
RECIPES = sorted(set(CONFIGS.rglob("*.yaml")) - set(PARTS) - set(COMPARISONS) - set(ATTENTIONS))
FINETUNING = sorted((CONFIGS / "finetune").glob("*.yaml"))
OWN = sorted((CONFIGS / "train").glob("*.yaml"))
TRAINING = [path for path in RECIPES if "eval" not in path.parts and path not in (*FINETUNING, *OWN)]
PAPER = sorted((CONFIGS / "glmha").glob("*.yaml"))
CLASSES = {
    "glmha": GLMHA,
    "linformer": LinformerChannelAttention,
    "performer": PerformerChannelAttention,
    "reformer": ReformerChannelAttention,
}

# One block a level, four channels: the structure stays the recipe's.
SHRUNK_NET = {"dim": 4, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1, "heads": [1, 1, 2, 2]}
# Those of other classes: one stage or one block a level (channels are the data's bands), four channels.
SHRUNK_NETS = {
    "glmha.MSTPlusPlus": {"stage": 1},
    "glmha.MST": {"num_blocks": [1, 1, 1]},
    "nystra.hosts.swinir.SwinIR": {"img_size": 16, "embed_dim": 4},
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
        data |= {"epoch_length": 4, "eval_size": 16}
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


@pytest.fixture
def data(pairs: Path) -> Path:
    """One folder that is laid out as Rain13K and as GoPro, with the images of `pairs`, and as ARAD_1K and CASSI's."""
    root = pairs.parent / "data"
    root.mkdir()
    (root / "train").symlink_to(pairs / "train")
    (root / "test").mkdir()
    for kind in ("input", "target"):
        (root / "test" / kind).symlink_to(pairs / "test" / kind)
    for name in ("Rain100L", "Rain100H"):
        (root / "test" / name).symlink_to(pairs / "test")
    write_arad(root)
    return write_cassi(root)


@pytest.mark.parametrize("recipe", TRAINING, ids=name)
def test_recipes_train_and_test(lowrank: Lowrank, recipe: Path, data: Path):
    arguments = ["--config", name(recipe), *overrides(recipe, data)]
    assert lowrank("fit", *arguments) == 0
    [last] = Path.cwd().rglob("last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 2
    # The score by which the recipe chooses the best checkpoint exists.
    assert list(last.parent.glob("best-*.ckpt"))
    assert lowrank("test", *arguments, "--ckpt_path", last) == 0
    assert list(Path.cwd().rglob("metrics.json"))


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
    assert lowrank("validate", *arguments, "--ckpt_path", last) == 0
    [record] = Path.cwd().rglob("metrics.json")
    [data_set] = json.loads(record.read_text())["sets"]
    assert data_set == ("val-centre16" if parts else "train-val-centre16")
    assert lowrank("test", *arguments, "--ckpt_path", last) == (0 if parts else 2)


@pytest.mark.parametrize("degradation", ["MotionBlur", "JPEGCompression", "Rain", "ShotNoise"])
def test_own_images_are_degraded_as_the_recipe_says_one_can_choose(lowrank: Lowrank, degradation: str, capsys):
    recipe = CONFIGS / "train/degraded.yaml"
    assert degradation in recipe.read_text()
    arguments = ["--config", name(recipe), "--data.root", "mine", "--data.degradation"]
    assert lowrank("fit", *arguments, f"datamodules.degradations.{degradation}", "--print_config") == 0
    chosen = yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["degradation"]
    assert chosen["class_path"] == f"datamodules.degradations.{degradation}"


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
    arguments += ["--best_checkpoint.save_top_k", 0]
    if "kernel_schedule" in config["model"]["init_args"]:
        # Its second kernel, too.
        [later] = config["model"]["init_args"]["kernel_schedule"].values()
        arguments += ["--model.kernel_schedule", json.dumps({1: later})]
    assert lowrank("fit", *arguments) == 0
    [last] = Path.cwd().rglob("last.ckpt")
    assert lowrank("test", *arguments, "--ckpt_path", last) == 0


def enlarged(folder: Path, target: Path, scale: int) -> Path:
    """The images of a folder, each pixel repeated."""
    target.mkdir()
    for path in folder.iterdir():
        write_image(target / path.name, read_image(path).repeat(scale, 0).repeat(scale, 1))
    return target


def test_recipes_of_fine_tuning_are_of_every_host():
    assert {recipe.stem.partition("_")[0] for recipe in FINETUNING} == SMALL.keys()


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


def test_arad_is_measured_without_its_border():
    for recipe in RECIPES:
        if "ntire" in recipe.stem:
            metrics = yaml.safe_load(recipe.read_text())["model"]["init_args"]["metrics"]
            assert {metric["init_args"]["border"] for metric in metrics} == {128}


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_recipes_parse_at_full_size(recipe: Path, lowrank: Lowrank, capsys):
    assert lowrank("fit", "--config", name(recipe), "--print_config") == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["trainer"]["logger"]["init_args"]["name"]
    tasks = (RestorationTask, SpectralTask, SubstitutionTask, WarmStartTask)
    assert config["model"]["class_path"] in [f"trainers.{task.__name__}" for task in tasks]


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
