"""`lowrank export` of graphs, and `lowrank restore` by them."""

import numpy as np
import onnx
import pytest
import torch

import glmha
from datamodules.files.images import read_image, write_image
from tests.trainers.small_networks import restormer


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--output", "net.tflite"), "must end in .pth or .pt or .safetensors or .pt2 or .xml or .onnx"),
        (("--output", "net.onnx", "--format", "pth"), "must end in .pth or .pt,"),
        (("--output", "net.pth", "--format", "aot"), "must end in .pt2,"),
        (("--output", "net.pth", "--pad"), "pad (True) must be left out for weights"),
        (("--output", "net.safetensors", "--precision", "float16"), "precision (float16) must be left out"),
    ],
)
def test_options_that_do_not_fit_are_refused(lowrank, released, options, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert lowrank("export", "--checkpoint", released, *options) == 2
    assert message in capsys.readouterr().err


def test_an_exported_graph_restores_as_its_checkpoint(lowrank, tmp_path, capsys):
    torch.save({"params": restormer(glmha.GLMHA).state_dict()}, tmp_path / "net.pth")
    assert lowrank("export", "--checkpoint", tmp_path / "net.pth", "--output", tmp_path / "net.onnx") == 0
    assert "onnx, float32; height and width: any multiple of 8 from 16 on" in capsys.readouterr().out.replace("\n", " ")
    write_image(tmp_path / "in" / "photo.png", np.random.default_rng(0).integers(0, 256, (21, 40, 1), np.uint8))
    results = []
    for name in ("net.pth", "net.onnx"):
        output = tmp_path / name.replace(".", "_")
        options = ["--tile", "24", "--overlap", "8", "--pretrained", tmp_path / name, "--output", output]
        assert lowrank("restore", tmp_path / "in", *options) == 0
        results.append(read_image(output / "photo.png").astype(int))
    assert abs(results[0] - results[1]).max() <= 1
    for option, value in (("--window_size", 8), ("--precision", "bf16"), ("--network", "nowhere:make")):
        arguments = ["--pretrained", tmp_path / "net.onnx", "--output", tmp_path / "out"]
        assert lowrank("restore", tmp_path / "in", *arguments, option, value) == 2
        assert "with an exported graph" in capsys.readouterr().err
    onnx.save(strip(onnx.load(tmp_path / "net.onnx")), tmp_path / "bare.onnx")
    for name, message in (
        ("bare.onnx", "must hold the description"),
        ("in/photo.onnx", "a graph that its runtime reads"),
    ):
        (tmp_path / "in" / "photo.onnx").write_bytes(b"no graph")
        assert lowrank("restore", tmp_path / "in", "--pretrained", tmp_path / name, "--output", tmp_path / "out") == 2
        assert message in capsys.readouterr().err.replace("\n", " ")


def strip(model):
    """A model without metadata."""
    del model.metadata_props[:]
    return model
