"""Parameters that are held, then trained at a rate of their own."""

import copy
from itertools import pairwise

import pytest
import torch
from torch.utils.data import DataLoader

from tests.trainers.clip_networks import ClipNetwork
from tests.trainers.tasks.one_value import trainer
from trainers import RestorationTask
from trainers.tiling.clips import ClipTiles
from trainers.tuning.rates import held_parameters, rate_groups

pytestmark = pytest.mark.filterwarnings(
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated",
    "ignore:The '.*_dataloader' does not have many workers",
    "ignore:You defined a `validation_step` but have no",
)


class Clips(torch.utils.data.Dataset):
    """Clips that are brighter in their target."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        clip = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(index))
        return {"input": clip, "target": clip + 0.1, "name": f"clip{index}"}


class Watched(RestorationTask):
    """Notes the weights after each step."""

    def on_train_batch_end(self, *_: object) -> None:
        self.noted.append(copy.deepcopy(self.net.state_dict()))


def train(tmp_path, **options):
    task = Watched(ClipNetwork(), optimizer=lambda p: torch.optim.SGD(p, lr=0.1), **options)
    task.noted = [copy.deepcopy(task.net.state_dict())]
    trainer(tmp_path, max_steps=4).fit(task, DataLoader(Clips(), batch_size=2))
    return task


@pytest.mark.parametrize("clips", [None, ClipTiles(mirror=True)])
def test_flow_is_held_and_then_trained_more_slowly(tmp_path, clips):
    task = train(tmp_path, learning_rates={"spynet.*": 0.025}, held_steps={"spynet.*": 2}, clips=clips)
    flow = [weights["spynet.weight"] for weights in task.noted]
    rest = [weights["mix.weight"] for weights in task.noted]
    assert torch.equal(flow[0], flow[2])
    assert not torch.equal(flow[2], flow[3])
    assert all(not torch.equal(*pair) for pair in pairwise(rest))
    assert [group["lr"] for group in task.trainer.optimizers[0].param_groups] == [0.1, 0.025]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"held_steps": {"nothing": 1}}, r"held_steps \(nothing\) must match"),
        ({"held_steps": {"spynet.*": -1}}, r"held_steps \(spynet.\*: -1\) must be at least 0"),
        ({"learning_rates": {"nothing": 1.0}}, r"learning_rates \(nothing\) must match"),
        ({"learning_rates": {"spynet.*": -1.0}}, r"must be at least 0"),
    ],
)
def test_patterns_and_numbers_that_do_not_fit_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        RestorationTask(ClipNetwork(), **options)


def test_what_does_not_require_gradients_is_in_no_group_and_not_held():
    net = ClipNetwork()
    net.spynet.requires_grad_(requires_grad=False)
    [group] = rate_groups(net, {})
    assert group["params"] == [net.mix.weight]
    assert held_parameters(net, {"mix.*": 3}, 2) == [net.mix.weight]
    assert held_parameters(net, {"mix.*": 3}, 3) == []
