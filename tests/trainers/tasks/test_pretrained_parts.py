"""Parts of a network that start from weights of their own files."""

import pytest
import torch

from nystra.hosts.rvrt.spynet import SpyNet
from tests.trainers import small_networks
from trainers import RestorationTask


def save(path, weights):
    torch.save(weights, path)
    return path


def test_the_optical_flow_starts_from_a_released_file(tmp_path):
    torch.manual_seed(1)
    flow = SpyNet().state_dict()
    # The released file has neither mean nor deviation.
    learned = {key: value for key, value in flow.items() if key not in ("mean", "std")}
    path = save(tmp_path / "spynet.pth", {"params": learned})
    task = RestorationTask(small_networks.rvrt(), pretrained_parts={"spynet": path})
    fresh = small_networks.rvrt().state_dict()
    for key, value in task.net.state_dict().items():
        part = key.removeprefix("spynet.")
        assert torch.equal(value, flow[part] if part != key else fresh[key])


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("flow", lambda weights: weights, r"pretrained_parts \(flow\) must name a part of net \(RVRT\)"),
        ("", lambda weights: weights, r"pretrained_parts \(\) must name a part"),
        ("spynet", lambda weights: dict(list(weights.items())[:-1]), r"basic_module\.5.*absent where"),
        ("spynet", lambda weights: {**weights, "more": torch.ones(2)}, r"more \(2 where absent is due\)"),
        ("spynet.basic_module.0", lambda weights: weights, r"must hold the weights of that part alone"),
    ],
)
def test_other_parts_and_weights_are_refused(tmp_path, name, change, named):
    path = save(tmp_path / "spynet.pth", change(SpyNet().state_dict()))
    with pytest.raises(ValueError, match=named):
        RestorationTask(small_networks.rvrt(), pretrained_parts={name: path})


def test_a_pretrained_network_needs_no_parts(tmp_path):
    path = save(tmp_path / "net.pth", {"params": small_networks.rvrt().state_dict()})
    with pytest.raises(ValueError, match=r"pretrained_parts \(spynet\) must be null with pretrained"):
        RestorationTask(pretrained=path, pretrained_parts={"spynet": path})
