"""Only what is to be trained is trained, by rates of its own."""

import pytest
import torch
from torch import nn

import nystra
from tests.trainers.small_networks import batch, dehazeformer, objective, swinir
from trainers import SubstitutionTask
from trainers.tuning.trainable import bias_parameters, disable_dropout, freeze


@pytest.mark.parametrize("make", [swinir, dehazeformer])
@pytest.mark.parametrize("trainable", ["attention", "bias", "adapters"])
def test_only_what_is_to_be_trained_is_trained(make, trainable, tmp_path):
    if trainable == "adapters":
        pytest.importorskip("peft")
    torch.save(make().state_dict(), tmp_path / "net.pth")
    task = SubstitutionTask(tmp_path / "net.pth", nystra.Nystrom(4, 4), trainable=trainable, adapter_rank=2)
    trained = {name for name, parameter in task.net.named_parameters() if parameter.requires_grad}
    marks = {
        ("attention", swinir): [".qkv.", ".proj.", "relative_position_bias_table"],
        ("bias", swinir): ["relative_position_bias_table"],
        ("adapters", swinir): [".qkv.", ".proj."],
        ("attention", dehazeformer): [".QK.", ".V.", ".proj.", ".meta.", ".conv."],
        ("bias", dehazeformer): [".meta."],
        ("adapters", dehazeformer): [".QK.", ".V.", ".proj."],
    }[trainable, make]
    assert all(any(mark in name for mark in marks) for name in trained)
    assert all(any(mark in name for name in trained) for mark in marks)
    task.make_optimizer = lambda groups: torch.optim.SGD(groups, lr=0.1)
    optimizer = task.configure_optimizers()
    before = {name: parameter.detach().clone() for name, parameter in task.net.named_parameters()}
    # The product of adapters has no gradient in its first factor before the second has moved.
    for _ in range(2):
        optimizer.zero_grad()
        objective(task, batch(32)).backward()
        optimizer.step()
    changed = {name for name, parameter in task.net.named_parameters() if (parameter != before[name]).any()}
    # A constant added to all logits has no effect, and some units of a small network are dead.
    assert changed <= trained
    assert all(any(mark in name for name in changed) for mark in marks)


def test_learning_rates_are_per_group(released):
    task = SubstitutionTask(
        released,
        learning_rates={"*bias_table": 0.5, "conv_first.*": 0.25},
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1),
    )
    groups = task.configure_optimizers().param_groups
    assert [(group["lr"], len(group["params"])) for group in groups][1:] == [(0.5, 2), (0.25, 2)]
    assert groups[0]["lr"] == 0.1
    assert sum(len(group["params"]) for group in groups) == len(list(task.net.parameters()))


def test_dropout_is_switched_off_wherever_it_is():
    net = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)))
    net[1].drop_path = 0.2
    disable_dropout(net)
    assert [module.p for module in net.modules() if isinstance(module, nn.Dropout)] == [0.0, 0.0]
    assert net[1].drop_path == 0.0


def test_all_leaves_every_parameter_trained_and_others_freeze_the_rest():
    net = swinir()
    freeze(net, "all", 4)
    assert all(parameter.requires_grad for parameter in net.parameters())
    freeze(net, "bias", 4)
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    assert {id(parameter) for parameter in trained} == {id(parameter) for parameter in bias_parameters(net)}
    assert len(trained) == 2
    with pytest.raises(ValueError, match=r"trainable \(bias\) must leave something to train, Linear has no bias"):
        freeze(nn.Linear(2, 2), "bias", 4)
