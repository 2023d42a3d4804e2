"""A released model against itself under other kernels: baselines, figures, pictures, errors."""

import json

import pytest
import torch

import nystra
from datamodules import DemoDataModule
from datamodules.files.images import read_image
from glmha.shared.released.download import digest_of
from nystra.hosts.dehazeformer.network import DehazeFormer
from tests import goldens
from trainers.cli.main import main
from trainers.commands.compare.command import run_compare
from trainers.commands.compare.variants import RELEASED


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "dehazeformer.pth"
    weights = goldens.released_form(DehazeFormer, "dehazeformer_small_t")
    torch.save({"state_dict": {f"module.{key}": value for key, value in weights.items()}}, path)
    return path


def test_every_variant_is_measured_on_the_same_images(checkpoint, tmp_path, capsys):
    kernels = [nystra.LandmarkPooling(4, 16), nystra.Softmax()]
    figures = run_compare(
        DemoDataModule(eval_size=64),
        pretrained=checkpoint,
        kernels=kernels,
        window_size=16,
        images=2,
        repeats=1,
        memory=False,
        output=tmp_path / "compare",
    )
    assert list(figures) == [RELEASED, "window 16, no bias", "window 16, bias", *map(str, kernels)]
    assert figures[RELEASED].fidelity == float("inf")
    assert figures[RELEASED].worst_drop == 0
    # Exact attention, substituted for itself.
    assert figures[str(kernels[1])].scores == figures["window 16, bias"].scores
    assert figures[str(kernels[0])].worst_fidelity <= figures[str(kernels[0])].fidelity < 200
    record = json.loads((tmp_path / "compare" / "metrics.json").read_text())
    assert len(record["images"]) == 2
    assert (record["partial"], record["images_expected"]) == (True, 4)
    assert record["weights"] == {"path": str(checkpoint), "sha256": digest_of(checkpoint), "ema": None}
    assert (record["data"], record["window_size"], record["position_bias"]) == ("DemoDataModule", 16, "keep")
    assert {"torch", "opencv-python-headless", "jpeg"} <= set(record["versions"])
    assert "fidelity" not in record["variants"][RELEASED]
    assert len(record["variants"]["window 16, bias"]["per_image"]["PSNR"]) == 2
    assert {path.name for path in (tmp_path / "compare").glob("comparison.*")} == {
        "comparison.pdf",
        "comparison.png",
        "comparison.csv",
    }
    ((shown, files),) = record["pictures"].items()
    assert shown in record["images"]
    assert list(files) == ["input", *record["variants"], "target"]
    assert all(read_image(tmp_path / "compare" / file).shape[2] == 3 for file in files.values())
    # Tokens of larger windows have more keys; pooled ones have fewer.
    released, exact = (record["variants"][name]["macs"] for name in (RELEASED, "window 16, bias"))
    assert record["variants"][str(kernels[0])]["macs"] < exact
    assert exact > released
    printed = capsys.readouterr().out
    assert "LandmarkPooling(" in printed
    assert "2 of 4 images" in printed
    assert "partial: images of the benchmark are missing" in " ".join(printed.split())


def test_all_images_are_no_part(checkpoint, tmp_path, capsys):
    data = DemoDataModule(eval_size=32)
    run_compare(data, pretrained=checkpoint, kernels=[], repeats=1, memory=False, output=tmp_path / "out")
    record = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert record["partial"] is False
    # Nothing became of the bias of windows that stayed as they were.
    assert (record["window_size"], record["position_bias"]) == (None, None)
    assert "partial" not in capsys.readouterr().out


def test_the_command_line_takes_kernels_and_data(checkpoint, tmp_path):
    config = tmp_path / "compare.yaml"
    config.write_text(
        """
data:
  class_path: datamodules.DemoDataModule
  init_args: {eval_size: 64}
kernels:
  - class_path: nystra.LandmarkPooling
    init_args: {landmarks: 4, cells: 16, near: own}
images: 1
repeats: 1
memory: false
"""
    )
    output = tmp_path / "out"
    assert main(["compare", f"--config={config}", f"--pretrained={checkpoint}", f"--output={output}"]) == 0
    variants = json.loads((output / "metrics.json").read_text())["variants"]
    assert list(variants) == [RELEASED, str(nystra.LandmarkPooling(4, 16, "own"))]


def test_mistakes_are_named(checkpoint, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"images \(0\)"):
        run_compare(DemoDataModule(), pretrained=checkpoint, images=0)
    with pytest.raises(ValueError, match=r"position_bias \(drop\) must be given with window_size"):
        run_compare(DemoDataModule(), pretrained=checkpoint, position_bias="drop")
    assert main(["compare", "--data=DemoDataModule", f"--pretrained={tmp_path / 'none.pth'}"]) == 2
    assert "none.pth" in capsys.readouterr().err
