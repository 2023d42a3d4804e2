"""`lowrank analyze spectrum`: the spectrum of a checkpoint is told, drawn and kept."""

import json

import numpy as np
import pytest
import torch

import glmha
from datamodules.files.images import write_image
from trainers.cli.main import main


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    net = glmha.Restormer(
        dim=8, num_blocks=(1, 1, 1, 1), num_refinement_blocks=1, heads=(1, 1, 2, 2), attention=glmha.GLMHA
    )
    path = tmp_path / "net.pth"
    torch.save(net.state_dict(), path)
    return path


def test_the_spectrum_of_a_checkpoint_is_told_drawn_and_kept(checkpoint, tmp_path, capsys):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (21, 40, 3), dtype=np.uint8)
    write_image(photographs / "colour.png", pixels)
    write_image(tmp_path / "grey.png", pixels[..., :1])
    output = tmp_path / "spectrum"
    images = [str(photographs), str(tmp_path / "grey.png")]
    assert main(["analyze", "spectrum", *images, f"--pretrained={checkpoint}", f"--output={output}", "--size=32"]) == 0
    record = json.loads((output / "spectrum.json").read_text())
    assert len(record["images"]) == 2
    energy = record["blocks"]["latent.0.attn"]["energy"]
    assert len(energy) == 64 // 2 // 2
    assert energy == sorted(energy)
    assert energy[-1] == pytest.approx(1)
    assert 1 <= record["blocks"]["latent.0.attn"]["rank"]["0.99"] <= 16
    assert (output / "spectrum.png").read_bytes().startswith(b"\x89PNG")
    assert "latent.0.attn" in capsys.readouterr().out


def test_images_that_cannot_be_measured_are_named(checkpoint, tmp_path, capsys):
    write_image(tmp_path / "small.png", np.zeros((5, 40, 3), np.uint8))
    for image, message in (("small.png", "must be at least 8 pixels"), ("none.png", "none.png")):
        status = main(["analyze", "spectrum", str(tmp_path / image), f"--pretrained={checkpoint}"])
        assert status == 2
        assert message in capsys.readouterr().err
    status = main(["analyze", "spectrum", str(tmp_path / "small.png"), f"--pretrained={checkpoint}", "--size=4"])
    assert status == 2
    assert "size (4) must be at least 8" in capsys.readouterr().err
