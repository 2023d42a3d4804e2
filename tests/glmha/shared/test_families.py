"""Families of networks: told apart by their marks, inferred, built, and refused in words that name the checkpoint."""

import pytest
import torch
from torch import nn

from glmha.pretrained import FAMILIES as CHANNEL_ATTENTION
from glmha.shared.checkpoint_files import CheckpointError
from glmha.shared.families import Families, Family
from nystra.pretrained import FAMILIES as WINDOW_ATTENTION
from tests import goldens


class Plain(nn.Module):
    """One linear map."""

    def __init__(self, width: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.map = nn.Linear(width, width, bias=bias)


class Doubled(Plain):
    """Two linear maps."""

    def __init__(self, width: int = 1) -> None:
        super().__init__(width)
        self.second = nn.Linear(width, width)


def width(weights):
    rows, columns = weights["map.weight"].shape
    if rows != columns:
        raise ValueError(f"{rows} rows of {columns}")
    return {"width": weights["map.bias"].shape[0]}


FAMILIES = Families(
    (Family(("map.weight", "second.weight"), Doubled, width), Family(("map.weight",), Plain, width)),
    refusal="{name} must be a linear map; it has {keys}",
)


@pytest.mark.parametrize("host", [Plain, Doubled])
def test_a_network_comes_back_as_its_own_class_and_size(host):
    weights = {key: tensor.double() for key, tensor in host(3).state_dict().items()}
    net = FAMILIES.build(weights, "it", {})
    assert type(net) is host
    assert not net.training
    for key, tensor in net.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor.double(), weights[key])


def test_overrides_replace_what_was_inferred():
    with pytest.raises(CheckpointError, match=r"it does not fit Plain\({'width': 3}\)"):
        FAMILIES.build(Plain(3).state_dict(), "it", {"width": 4})
    with pytest.raises(CheckpointError, match=r"overrides must be arguments of Plain, got \['depth'\]"):
        FAMILIES.build(Plain(3).state_dict(), "it", {"depth": 4})


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": torch.ones(1), "b": torch.ones(1)}, r"^it must be a linear map; it has \['a', 'b'\]$"),
        ({}, r"it has \[\]$"),
        (Plain(3, bias=False).state_dict(), "^it lacks the key 'map.bias': it is incomplete or of another architec"),
        ({"map.weight": torch.ones(2, 3)}, "^it has tensors of other shapes than its keys promise: 2 rows of 3$"),
        ({"map.weight": torch.ones(2, 2), "map.bias": torch.tensor(1.0)}, "of other shapes than its keys promise"),
    ],
)
def test_what_does_not_fit_is_named(weights, message):
    with pytest.raises(CheckpointError, match=message):
        FAMILIES.infer(weights, "it")


def test_names_with_braces_are_shown_as_they_are():
    with pytest.raises(CheckpointError, match=r"^\{name\}\.pth must be a linear map; it has \['\{keys\}'\]$"):
        FAMILIES.infer({"{keys}": torch.ones(1)}, "{name}.pth")


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("restormer_small_biasfree", CHANNEL_ATTENTION, WINDOW_ATTENTION),
        ("mst_small", CHANNEL_ATTENTION, WINDOW_ATTENTION),
        ("mstpp_small", CHANNEL_ATTENTION, WINDOW_ATTENTION),
        ("uformer_small_shift", WINDOW_ATTENTION, CHANNEL_ATTENTION),
        ("swinir_small_pixelshuffle_x2", WINDOW_ATTENTION, CHANNEL_ATTENTION),
        ("dehazeformer_small_conv", WINDOW_ATTENTION, CHANNEL_ATTENTION),
    ],
)
def test_no_network_is_of_both_packages(name, one, other):
    weights = goldens.load(name).weights
    assert one.find(weights) is not None
    assert other.find(weights) is None
