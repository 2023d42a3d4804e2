"""Recipes of comparisons and evaluations: every one is instantiated, its kernels fit its windows, and it runs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from torch import nn

from datamodules import RestorationDataModule
from datamodules.files.images import write_image
from glmha import Restormer
from nystra import Kernel, PublishedNystrom
from nystra.hosts.dehazeformer.network import DehazeFormer
from nystra.hosts.swinir.network import SwinIR
from nystra.hosts.uformer.network import LEVELS, Uformer
from tests import goldens
from tests.trainers.recipes.shrinking import COMPARISONS, CONFIGS, SHRUNK_NET, name, slow
from trainers.commands.compare.command import run_compare
from trainers.metrics import ImageMetric

Lowrank = Callable[..., int]

# Host and smallest windows of each recipe's network, and what the paper says of its kernel: window (None: the trained
# one), landmarks and iterations.
PUBLISHED = {
    "dehazeformer_sots": (None, 16, 6),
    "rvrt_davis": (64, 32, 6),
    "rvrt_gopro": (64, 32, 6),
    "rvrt_reds": (64, 32, 6),
    "swinir_sr": (32, 16, 2),
    "uformer_bsds200": (64, 32, 6),
    "uformer_realblur": (32, 16, 3),
    "uformer_sidd": (64, 32, 6),
}


def released(recipe: Path) -> dict[str, torch.Tensor]:
    """A small network of the recipe's host, in its released form."""
    if recipe.stem.startswith("dehazeformer"):
        return goldens.released_form(DehazeFormer, "dehazeformer_small_t")
    net = small_swinir(2) if recipe.stem.startswith("swinir") else small_uformer()
    return net.state_dict()


def small_swinir(scale: int) -> SwinIR:
    upsampler = "pixelshuffle" if scale > 1 else ""
    return SwinIR(
        img_size=16, upscale=scale, upsampler=upsampler, embed_dim=6, depths=[2], num_heads=[2], window_size=8
    )


def small_restormer() -> Restormer:
    """A network that returns its input: images are aligned only with what resembles them."""
    net = Restormer(**SHRUNK_NET)
    torch.nn.init.zeros_(net.output.weight)
    return net


def small_uformer() -> Uformer:
    return Uformer(embed_dim=4, depths=[1] * 9, num_heads=[1] * 9, win_size=8)


@pytest.fixture
def benchmarks(tmp_path: Path) -> Path:
    """One folder that holds a few images of every benchmark but RESIDE's."""
    root = tmp_path / "benchmarks"
    rng = np.random.default_rng(0)

    def write(place: str, height: int = 40, width: int = 48) -> None:
        rows, columns = np.indices((height, width))[..., None] / 6
        waves = 128 + 90 * np.sin(rows + np.arange(3)) * np.cos(columns * rows / 20)
        write_image(root / place, (waves + rng.integers(-5, 6, waves.shape)).astype(np.uint8))

    for scene in ("1400", "1401"):
        write(f"hazy/{scene}_1.png")
        write(f"GT/{scene}.png", 44, 52)
    for folder in ("Set5", "BSDS100", "BSDS200", "Kodak24"):
        write(f"{folder}/1.png")
    for folder in ("test/GoPro", "test/HIDE", "test/RealBlur_J", "test/RealBlur_R"):
        write(f"{folder}/input/1.png")
        write(f"{folder}/target/1.png")
    write("val/input/1.png")
    write("val/groundtruth/1.png")
    return root


@pytest.mark.parametrize("recipe", COMPARISONS, ids=name)
def test_comparisons_are_what_the_paper_says_and_their_kernels_fit(recipe: Path):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_function_arguments(run_compare)
    config = parser.parse_args([f"--config={recipe}", "--pretrained=net.pth"])
    values = parser.instantiate(config)
    assert isinstance(values.data, RestorationDataModule)
    assert values.metrics
    assert all(isinstance(metric, ImageMetric) for metric in values.metrics)
    window, landmarks, iterations = PUBLISHED[recipe.stem]
    assert values.window_size == window
    [published] = [kernel for kernel in values.kernels if isinstance(kernel, PublishedNystrom)]
    assert (published.landmarks, published.iterations) == (landmarks, iterations)
    assert published.threshold == (0 if recipe.stem.startswith("uformer") else 5)
    assert {type(kernel).__name__ for kernel in values.kernels} >= {"LandmarkPooling", "Nystrom", "Nystromformer"}
    sides = {window or 8}
    if recipe.stem.startswith("uformer"):
        # A coarse map of a small image is smaller than the window.
        sides |= {min(side, 256 >> level) for side in sides for level in range(LEVELS + 1)}
    for kernel in values.kernels:
        assert isinstance(kernel, Kernel)
        for side in sides:
            assert kernel.cost((side, side), 32).macs > 0


# Those of clips run in a file of their own.
OF_IMAGES = [path for path in COMPARISONS if not path.stem.startswith("rvrt")]


@pytest.mark.parametrize("recipe", slow(OF_IMAGES, "swinir_sr", "uformer_bsds200", "uformer_sidd"), ids=name)
def test_comparisons_run(lowrank: Lowrank, recipe: Path, benchmarks: Path, tmp_path: Path):
    torch.save({"params": released(recipe)}, tmp_path / "net.pth")
    arguments = ["--config", name(recipe), "--pretrained", tmp_path / "net.pth", "--data.root", benchmarks]
    window = yaml.safe_load(recipe.read_text()).get("window_size")
    if recipe.stem.startswith("uformer"):
        # At the recipe's the image would be padded to 1024 pixels; these windows are the trained ones.
        window = 8
        arguments += ["--window_size", window]
    arguments += ["--images", 1, "--repeats", 1, "--memory", "false", "--output", tmp_path / "out"]
    assert lowrank("compare", *arguments) == 0
    record = json.loads((tmp_path / "out" / "metrics.json").read_text())
    baselines = ["released", *([f"window {window}, no bias", f"window {window}, bias"] if window else [])]
    assert list(record["variants"])[: len(baselines)] == baselines
    assert len(record["variants"]) == len(baselines) + len(yaml.safe_load(recipe.read_text())["kernels"])
    assert len(record["images"]) == 1


def test_every_scale_of_a_comparison_takes_its_border(lowrank: Lowrank, benchmarks: Path, tmp_path: Path):
    torch.save({"params": small_swinir(4).state_dict()}, tmp_path / "net.pth")
    arguments = ["--config", "nystra/swinir_sr.yaml", "--pretrained", tmp_path / "net.pth", "--data.root", benchmarks]
    arguments += ["--window_size", 8, "--kernels", "[Softmax]", "--repeats", 1, "--memory", "false"]
    arguments += ["--data.scale", 4, "--metrics", "[{class_path: PSNR, init_args: {space: y, border: 4}}]"]
    assert lowrank("compare", *arguments, "--output", tmp_path / "out") == 0
    record = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert record["protocol"] == {"PSNR-Y": "PSNR on BasicSR's unrounded Y, uint8, border 4"}


EVALUATIONS: dict[str, tuple[Callable[[], nn.Module], list[str], set[str]]] = {
    "denoising": (lambda: small_swinir(1), [], {"Kodak24"}),
    "gopro": (small_restormer, [], {"GoPro", "HIDE"}),
    "realblur": (small_restormer, [], {"RealBlur_J", "RealBlur_R"}),
    "sidd": (small_restormer, [], {"SIDD"}),
    "sots": (lambda: DehazeFormer(**goldens.load("dehazeformer_small_t").config), [], {"benchmarks"}),
    "super_resolution": (lambda: small_swinir(2), [], {"Set5", "BSDS100"}),
}
JPEG = ["--data", "datamodules.JPEGDataModule", "--data.quality", "10", "--data.test_sets", "[Kodak24]"]
SCALE = ["--data.scale", "3", "--model.metrics", "[{class_path: PSNR, init_args: {space: y, border: 3}}]"]
CASES = [
    *((kind, *case) for kind, case in EVALUATIONS.items()),
    ("denoising", lambda: small_swinir(1), [*JPEG, "--model.metrics", "[PSNR, SSIM, PSNRB]"], {"Kodak24"}),
    ("super_resolution", lambda: small_swinir(3), SCALE, {"Set5", "BSDS100"}),
]


@pytest.mark.parametrize(("kind", "net", "options", "sets"), CASES)
def test_evaluations_need_a_checkpoint_only(
    lowrank: Lowrank, benchmarks: Path, tmp_path: Path, kind, net, options, sets
):
    torch.manual_seed(0)
    torch.save({"params": net().state_dict()}, tmp_path / "net.pth")
    # The class of the data module comes before its arguments.
    arguments = ["--config", f"eval/{kind}.yaml", *options, "--data.root", benchmarks, "--data.num_workers", 0]
    arguments += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    assert lowrank("test", *arguments, "--model.pretrained", tmp_path / "net.pth") == 0
    record = json.loads(next(Path.cwd().rglob("metrics.json")).read_text())
    assert record["sets"].keys() == sets
    recipe = yaml.safe_load((CONFIGS / "eval" / f"{kind}.yaml").read_text())
    if "--model.metrics" not in options:
        assert len(record["metrics"]) == len(recipe["model"]["init_args"]["metrics"])
    assert next(Path.cwd().rglob("metrics.json")).parts[-3] == recipe["trainer"]["logger"]["init_args"]["name"]
    for values in record["sets"].values():
        assert all(np.isfinite(float(value)) for value in values["mean"].values())
