"""The spectral demonstration runs end to end in a few steps and says what it found."""

import json
from importlib.resources import files

import pytest
import torch
import yaml
from rich.console import Console

from datamodules import SpectralDemoDataModule
from trainers.commands.demo import spectral as demo_spectral


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Smaller held-out scenes and shorter epochs, in the recipes too."""
    options = {"eval_size": 24, "epoch_length": 8, "batch_size": 4, "patch_size": 16}
    recipes = {}
    for name, recipe in demo_spectral.RECIPES.items():
        content = yaml.safe_load(files("configs").joinpath(recipe).read_text())
        content["data"]["init_args"] |= options
        # One step is logged, too.
        content["trainer"]["log_every_n_steps"] = 1
        recipes[name] = tmp_path / f"{name}.yaml"
        recipes[name].write_text(yaml.safe_dump(content))
    monkeypatch.setattr(demo_spectral, "RECIPES", recipes)
    monkeypatch.setattr(demo_spectral, "SpectralDemoDataModule", lambda: SpectralDemoDataModule(**options))
    monkeypatch.setattr(demo_spectral, "BATCH", 4)
    monkeypatch.setattr(demo_spectral, "STEP_SHAPE", (1, 3, 16, 16))
    monkeypatch.setattr(demo_spectral, "MACS_SHAPE", (1, 3, 32, 32))


def test_the_part_leaves_a_table_spectra_and_figures(small, tmp_path):
    summary = demo_spectral.run_spectral_demo(tmp_path, steps=1)
    console = Console(width=120)
    with console.capture() as capture:
        console.print(summary)
    assert "4 scenes" in capture.get()
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert list(figures["results"]) == ["linear map", "CSA", "GLMHA"]
    assert list(figures["protocol"]) == ["mrae", "rmse", "psnr", "sam"]
    # A linear map is a fair guess; networks of one step are none.
    assert figures["results"]["linear map"]["mrae"] < 0.5 < figures["results"]["GLMHA"]["mrae"]
    assert figures["results"]["GLMHA"]["macs"] < figures["results"]["CSA"]["macs"]
    assert (tmp_path / "spectra.png").read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.glob("GLMHA/**/events.out.tfevents.*"))


def test_the_linear_map_is_the_one_of_least_squares(small):
    data = demo_spectral.SpectralDemoDataModule()
    data.setup("fit")
    linear = demo_spectral.fit_linear_map(data)
    assert linear.shape == (31, 3)
    batches = list(data.train_dataloader())

    def error(candidate):
        cubes = [torch.einsum("sc,bchw->bshw", candidate, batch["input"]) - batch["target"] for batch in batches]
        return sum(cube.square().sum().item() for cube in cubes)

    assert all(error(linear) < error(linear + 0.01 * torch.randn(31, 3)) for _ in range(5))
