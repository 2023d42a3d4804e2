"""`lowrank analyze spectrum`: the spectrum of a checkpoint is told, drawn and kept."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import glmha
import nystra
from datamodules.files.images import write_image
from glmha.spectrum import spectrum
from trainers.cli.main import main
from trainers.commands.analyze.spectrum import analyze_spectrum


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


def test_windows_have_a_spectrum_too(tmp_path):
    net = nystra.SwinIR(img_size=8, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4)
    torch.save({"params": net.state_dict()}, tmp_path / "swinir.pth")
    write_image(tmp_path / "photo.png", np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8))
    energies = analyze_spectrum([tmp_path / "photo.png"], pretrained=tmp_path / "swinir.pth", output=tmp_path)
    record = json.loads((tmp_path / "spectrum.json").read_text())["blocks"]
    assert list(record) == list(energies) == [f"layers.{n}.residual_group.blocks.0.attn" for n in (0, 1)]
    values = record["layers.1.residual_group.blocks.0.attn"]["singular_values"]
    assert len(values) == 16
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(1)


def test_trained_modules_are_measured_on_the_inputs_that_lie_beside(tmp_path):
    attention = glmha.ChannelAttention(8, heads=2)
    image = torch.rand(2, 8, 12, 16)
    tensors = {f"block3.weight.{key}": value for key, value in attention.state_dict().items()}
    save_file({**tensors, **{f"block3.image{n}.input": image[n].clone() for n in (0, 1)}}, tmp_path / "m.safetensors")
    energies = analyze_spectrum(modules=tmp_path / "m.safetensors", output=tmp_path / "out", title="one module")
    torch.testing.assert_close(energies, {"block3": spectrum(attention, [image])[""]})


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "must be given, or modules"),
        ({"pretrained": "net.pth"}, "must be given, or modules"),
        ({"images": [Path("a.png")], "modules": Path("m")}, "must be left out with modules"),
        ({"pretrained": "net.pth", "modules": Path("m")}, "pretrained .* must be null with modules"),
    ],
)
def test_either_a_network_or_modules_are_measured(options, problem):
    with pytest.raises(ValueError, match=problem):
        analyze_spectrum(**options)
