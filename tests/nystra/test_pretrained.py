"""Checkpoints of window networks: the class is inferred, what tensors cannot tell is given, others are refused."""

import pytest
import torch

import glmha
import nystra
from glmha.shared.checkpoint_files import CheckpointError


def swinir() -> nystra.SwinIR:
    return nystra.SwinIR(img_size=16, embed_dim=8, depths=[2], num_heads=[2], window_size=4)


def dehazeformer() -> nystra.DehazeFormer:
    return nystra.DehazeFormer(
        embed_dims=(4, 8, 8, 8, 4), depths=(1, 2, 1, 1, 1), num_heads=(1, 2, 2, 1, 1), attn_ratio=(0, 0.5, 1, 0, 0)
    )


@pytest.mark.parametrize("make", [swinir, dehazeformer])
def test_the_class_and_the_weights_are_those_of_the_file(make, tmp_path):
    net = make()
    torch.save({"params": net.state_dict()}, tmp_path / "net.pth")
    loaded = nystra.load_pretrained(tmp_path / "net.pth")
    assert type(loaded) is type(net)
    assert not loaded.training
    torch.testing.assert_close(loaded.state_dict(), net.state_dict(), rtol=0, atol=0)


def test_windows_and_bias_are_as_they_are_asked_for():
    net = nystra.load_pretrained(swinir().state_dict(), window_size=8, position_bias="drop", img_range=2.0)
    assert net.window_size == 8
    assert net.img_range == 2.0
    assert {site.bias_mode for site in nystra.find_sites(net).values()} == {"drop"}
    with pytest.raises(ValueError, match="window_size"):
        nystra.load_pretrained(swinir().state_dict(), window_size=0)


def test_checkpoints_of_other_packages_name_where_they_are_loaded():
    net = glmha.Restormer(dim=8, num_blocks=[1] * 4, num_refinement_blocks=1, heads=[1] * 4)
    with pytest.raises(
        CheckpointError, match=r"must be a SwinIR, Uformer, DehazeFormer or RVRT .*glmha\.load_pretrained"
    ):
        nystra.load_pretrained(net.state_dict())
