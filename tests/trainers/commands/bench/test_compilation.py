"""What is compiled of a network: each block that it stacks, and nothing twice."""

import pytest
from torch import nn

from nystra.sites.substitution import find_sites
from tests.test_conformance import HOSTS
from trainers.commands.bench.compilation import blocks, compiled_blocks


@pytest.mark.parametrize("name", ["SwinIR", "Uformer", "DehazeFormer"])
def test_every_attention_lies_in_one_block(name):
    net = HOSTS[name].build()
    found = list(blocks(net))
    for site in find_sites(net).values():
        assert sum(any(module is site for module in block.modules()) for block in found) == 1
    inside = [id(module) for block in found for module in block.modules()]
    assert len(inside) == len(set(inside))


def test_restormer_is_compiled_by_transformer_block(monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda module, **_: compiled.append(type(module).__name__))
    net = HOSTS["Restormer"].build()
    compiled_blocks(net)
    assert compiled == ["TransformerBlock"] * 8
