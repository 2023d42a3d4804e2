"""Blocks that recompute: the gradients of those that keep everything, with less memory."""

import copy
import functools

import pytest
import torch
from torch import nn

from glmha import GLMHA, MST, CassiMSTPlusPlus, MSTPlusPlus, Restormer
from glmha.shared.recompute import set_recompute
from nystra.hosts.dehazeformer.network import DehazeFormer
from nystra.hosts.swinir.network import SwinIR
from nystra.hosts.uformer.network import Uformer

RESTORMER = functools.partial(Restormer, dim=8, num_blocks=[1, 1, 1, 2], num_refinement_blocks=1, heads=[1, 1, 2, 2])
NETS = {
    "Restormer": RESTORMER,
    "Restormer, GLMHA": functools.partial(RESTORMER, attention=functools.partial(GLMHA, alpha=0.7)),
    "MST": functools.partial(MST, dim=3, num_blocks=[1, 1, 1]),
    "MST++": functools.partial(MSTPlusPlus, stage=1, n_feat=4, out_channels=4),
    "MST++ for CASSI": functools.partial(CassiMSTPlusPlus, in_channels=3, n_feat=3, out_channels=3, stage=1),
    "SwinIR": functools.partial(
        SwinIR, img_size=16, window_size=8, embed_dim=8, depths=[2], num_heads=[2], drop_rate=0.1, drop_path_rate=0.5
    ),
    "Uformer": functools.partial(
        Uformer, img_size=32, win_size=2, embed_dim=4, depths=[2] * 9, num_heads=[1] * 9, drop_path_rate=0.5
    ),
    "DehazeFormer": functools.partial(DehazeFormer, depths=[1, 1, 2, 1, 1], attn_ratio=[0, 1, 1, 0, 0]),
}


def gradients(net: nn.Module, inputs: list[torch.Tensor]) -> list[torch.Tensor | None]:
    torch.manual_seed(1)
    net(*inputs).square().mean().backward()
    return [None if parameter.grad is None else parameter.grad.clone() for parameter in net.parameters()]


@pytest.mark.parametrize("name", NETS)
def test_gradients_are_those_of_blocks_that_keep_everything(name, monkeypatch):
    torch.manual_seed(0)
    # With dropout and stochastic depth: what is made again has to draw the same.
    net = NETS[name]().train()
    other = copy.deepcopy(net)
    set_recompute(other, True)
    inputs = [torch.rand(2, 3, 32, 32)] * (2 if "CASSI" in name else 1)
    calls = []
    checkpoint = torch.utils.checkpoint.checkpoint
    monkeypatch.setattr(
        "glmha.shared.recompute.checkpoint", lambda *args, **kw: calls.append(1) or checkpoint(*args, **kw)
    )
    expected = gradients(net, inputs)
    assert not calls
    found = gradients(other, inputs)
    assert len(calls) == sum(hasattr(module, "recompute") for module in net.modules()) > 1
    for one, two in zip(expected, found, strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(two, one)
    with torch.no_grad():
        other(*inputs)
    assert len(calls) < 2 * sum(hasattr(module, "recompute") for module in net.modules())
    assert other.state_dict().keys() == net.state_dict().keys()


def kept(net: nn.Module, image: torch.Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass, parameters apart."""
    own = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    found: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        net(image)
    return sum(storage.nbytes() for storage in found.values())


def test_a_step_keeps_less_than_a_quarter():
    net = Restormer(dim=8, num_blocks=[4, 4, 4, 2], num_refinement_blocks=4, heads=[1, 1, 1, 1], attention=GLMHA)
    everything = kept(net, torch.rand(1, 3, 64, 64))
    set_recompute(net, True)
    # What is kept: the inputs of blocks, and what lies between them.
    assert 0 < kept(net, torch.rand(1, 3, 64, 64)) < everything / 4


def test_networks_that_cannot_are_refused():
    set_recompute(nn.Conv2d(1, 1, 1), False)
    with pytest.raises(ValueError, match=r"checkpoint_activations \(True\) must be false for Conv2d: it has no blocks"):
        set_recompute(nn.Conv2d(1, 1, 1), True)
