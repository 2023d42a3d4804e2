"""Networks of other libraries on the command line: made by a function that is named, loaded strictly, adopted."""

import itertools
import json
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torch.testing import assert_close

import nystra
from datamodules.files.images import read_image
from glmha.shared.checkpoint_files import CheckpointError, read
from glmha.shared.image_network import image_rules
from nystra.sites import attention_record
from tests.trainers.small_networks import batch, last, objective
from trainers import SubstitutionTask
from trainers.networks import load_network

SOURCE = """
import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, dim=8, heads=2, window=4):
        super().__init__()
        self.window, self.heads = window, heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads))
        places = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        rows, columns = (places.unsqueeze(1) - places + window - 1).unbind(2)
        self.register_buffer("index", rows * (2 * window - 1) + columns)

    def forward(self, x):
        batch, height, width, dim = x.shape
        side = self.window
        windows = x.view(batch, height // side, side, width // side, side, dim).transpose(2, 3)
        windows = windows.reshape(-1, side * side, dim)
        q, k, v = self.qkv(windows).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        logits = q * (dim // self.heads) ** -0.5 @ k.transpose(-2, -1)
        logits = logits + self.table[self.index].permute(2, 0, 1)
        attended = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
        out = self.proj(attended).view(batch, height // side, width // side, side, side, dim)
        return out.transpose(2, 3).reshape(x.shape)


class Net(nn.Module):
    scale = 0.5  # means something else here

    def __init__(self, upscale=1):
        super().__init__()
        self.net = nn.Conv2d(3, 8, 3, padding=1)
        self.attentions = nn.ModuleList([Attention(), Attention()])
        self.tail = nn.Conv2d(8, 3 * upscale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(upscale)

    def forward(self, x):
        features = self.net(x).permute(0, 2, 3, 1)
        for attention in self.attentions:
            features = features + attention(features)
        return self.shuffle(self.tail(features.permute(0, 3, 1, 2)))


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net()

    def forward(self, x):
        return self.net(x)


def twice():
    return Net(2)


def number():
    return 3


def flat():
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten())


not_callable = 3
"""
NUMBERS = itertools.count()


@pytest.fixture
def module(lowrank, monkeypatch):
    """The module's name, and the module; it lies in the working directory."""
    # Another name for every test: modules are imported once.
    name = f"own_networks_{next(NUMBERS)}"
    Path(f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    return name, __import__(name)


def saved(net, **beside) -> Path:
    torch.save({"params": net.state_dict(), **beside}, "own.pth")
    return Path("own.pth")


@pytest.mark.parametrize("make", ["Net", "twice", "Wrapped"])
def test_networks_are_loaded_strictly_tried_and_adopted(module, make):
    name, own = module
    net = getattr(own, make)().eval()
    loaded = load_network(saved(net), f"{name}:{make}")
    image = torch.rand(1, 3, 24, 36)
    with torch.no_grad():
        assert_close(loaded(image), net(image), rtol=1e-5, atol=1e-5)
    rules = image_rules(loaded)
    assert (rules.size_multiple, rules.scale, rules.value_range) == (4, 2 if make == "twice" else 1, (0.0, 1.0))
    assert [site.window_size for site in nystra.find_sites(loaded).values()] == [(4, 4), (4, 4)]
    assert not loaded.training


def test_a_dot_may_stand_for_the_colon(module):
    name, own = module
    assert len(nystra.find_sites(load_network(saved(own.Net()), f"{name}.Net"))) == 2


def test_kernels_are_recorded_with_the_weights(module):
    name, own = module
    net = load_network(saved(own.Net()), f"{name}:Net")
    nystra.substitute(net, nystra.LandmarkPooling(4, 4))
    record = attention_record.record(net)
    again = load_network(saved(own.Net(), attention=record), f"{name}:Net")
    assert attention_record.record(again) == record
    exact = load_network(saved(own.Net(), attention=record), f"{name}:Net", recorded=False)
    assert attention_record.record(exact) == {}
    with pytest.raises(CheckpointError, match="must record its windows and kernels as they are"):
        load_network(saved(own.Net(), attention={"kernels": {"nowhere": {"class": "Softmax"}}}), f"{name}:Net")


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("{}:number", "must make a torch.nn.Module, got int"),
        ("{}:nothing", "must be the import path of what makes a network"),
        ("{}:not_callable", "must be the import path of what makes a network"),
        ("{}:Attention.forward", "must be the import path of what makes a network"),
        ("os:getcwd", "nothing else is imported"),
        ("subprocess:Popen", "nothing else is imported"),
        ("nowhere_at_all:Net", "must be the import path of what makes a network"),
        ("", "must be the import path of what makes a network"),
    ],
)
def test_what_makes_no_network_is_refused(module, factory, message):
    name, own = module
    with pytest.raises(ValueError, match=message):
        load_network(saved(own.Net()), factory.format(name))


def test_other_weights_are_refused(module):
    name, own = module
    with pytest.raises(CheckpointError, match=r"own\.pth\) must hold the weights of"):
        load_network(saved(nn.Linear(3, 3)), f"{name}:Net")
    with pytest.raises(ValueError, match="the network must give images of 3 channels"):
        load_network(saved(own.flat()), f"{name}:flat")
    with pytest.raises(ValueError, match=r"window_size \(8\) must be null"):
        load_network(saved(own.Net()), f"{name}:Net", window_size=8)


def test_every_verb_takes_them(module, lowrank, tuning, pairs, tmp_path):
    name, own = module
    checkpoint = saved(own.Net())
    option = ["--network", f"{name}:Net"]
    photo = next((pairs / "test" / "input").glob("*.png"))
    assert lowrank("restore", photo, "--pretrained", checkpoint, "--output", "restored", *option) == 0
    assert read_image(Path("restored") / photo.name).shape == read_image(photo).shape
    data = ["--data", "datamodules.PairedFolderDataModule"]
    data += [f"--data.test_{kind}={pairs / 'test' / kind}" for kind in ("input", "target")]
    options = ["--kernels", "[nystra.LandmarkPooling]", "--memory", "false", "--repeats", 1, "--output", "compare"]
    assert lowrank("compare", "--pretrained", checkpoint, *data, *options, *option) == 0
    figures = json.loads(Path("compare/metrics.json").read_text())
    assert figures["network"] == option[1]
    assert figures["variants"]["Softmax()"]["fidelity"] > 100
    assert next(iter(figures["variants"])) == "released"
    sizes = ["--height", 16, "--width", 16, "--repeats", 1, "--threads", 1, "--half", "false"]
    assert lowrank("bench", "windows", *option, *sizes, "--kernels", "[nystra.LandmarkPooling]", "--threads", 1) == 0
    recipe = yaml.safe_load(tuning.read_text())
    recipe["model"]["init_args"] |= {"pretrained": str(checkpoint.absolute()), "network": option[1]}
    for key in ("window_size", "position_bias"):
        del recipe["model"]["init_args"][key]
    tuning.write_text(yaml.safe_dump(recipe))
    assert lowrank("fit", "--config", tuning) == 0
    trained = last(tmp_path / "logs")
    assert len(read(trained)[attention_record.KEY]["kernels"]) == 2
    assert lowrank("test", "--config", tuning, "--ckpt_path", trained) == 0
    assert lowrank("restore", photo, "--pretrained", trained, "--output", "tuned", *option) == 0


@pytest.mark.parametrize("trainable", ["all", "attention", "adapters"])
def test_fine_tuning_follows_the_attentions_of_the_teacher(module, trainable):
    name, own = module
    task = SubstitutionTask(
        saved(own.Net()), nystra.LandmarkPooling(1, 1, "none"), network=f"{name}:Net", trainable=trainable
    )
    objective(task, batch()).backward()
    reached = {key for key, parameter in task.net.named_parameters() if parameter.grad is not None}
    assert reached
    assert float(task.logged["train/teacher_attention"]) > 0
    exact = SubstitutionTask(saved(own.Net()), network=f"{name}:Net", ground_truth=0.0)
    assert objective(exact, batch()).item() < 1e-6
