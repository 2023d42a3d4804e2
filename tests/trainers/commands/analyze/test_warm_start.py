"""`lowrank analyze warmstart`: starts are compared on trained modules."""

import torch

import glmha


def test_the_start_is_compared_on_trained_modules(lowrank, tmp_path, capsys):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    dense = glmha.ChannelAttention(8, 2)
    tensors = {f"block0.weight.{key}": value for key, value in dense.state_dict().items()}
    tensors |= {f"block0.image{image}.input": torch.rand(8, 16, 16) for image in (0, 1)}
    save_file(tensors, tmp_path / "modules.safetensors")
    arguments = ["--modules", tmp_path / "modules.safetensors", "--reductions", "[0.5]", "--steps", 2]
    assert lowrank("analyze", "warmstart", *arguments) == 0
    printed = capsys.readouterr().out
    assert "random" in printed
    assert "from_dense" in printed
    assert lowrank("analyze", "warmstart", "--modules", tmp_path / "modules.safetensors", "--steps", 0) == 2
    assert "steps (0)" in capsys.readouterr().err
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert lowrank("analyze", "warmstart", "--modules", tmp_path / "other.safetensors") == 2
    assert "must hold tensors block0" in capsys.readouterr().err
