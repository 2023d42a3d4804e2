"""Plans as files, and as nets are run by them."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

import nystra
from nystra import LandmarkPooling, Nystrom, Plan, Softmax, SwinIR
from nystra.analysis import Choice
from nystra.analysis.plan import keep_channels_last
from nystra.analysis.planning import CANDIDATES


def small():
    torch.manual_seed(0)
    return SwinIR(img_size=32, embed_dim=8, depths=[2], num_heads=[2], window_size=16).eval()


def made(**changes):
    site, other = nystra.find_sites(small())
    choices = {site: Choice(LandmarkPooling(4, 16), 0.1, 0.2, 0.3), other: Choice(Softmax(), 0.1, 0.1, 0.0)}
    return dataclasses.replace(Plan(choices, 52.5, 0.5, 1.5, 1.25), **changes)


@pytest.mark.parametrize(
    "plan",
    [
        made(),
        made(host_seconds=3.0, precision="bf16", channels_last=True, checked_db=50.0, untried=("layer.3",)),
        made(fidelity_db=float("inf")),
    ],
)
def test_a_plan_is_read_as_it_was_written(plan, tmp_path):
    plan.save(tmp_path / "plan.yaml")
    assert Plan.load(tmp_path / "plan.yaml") == plan


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1, 2]",
        "choices: {}",
        "choices: {a: {kernel: {class: Softmax}, seconds: 1, exact_seconds: 1}}",
        "choices: {a: &x {kernel: {class: Softmax}}, b: *x}",
        "choices: !!python/object/apply:os.getcwd []",
        "\t",
        "a: " + "[" * 3000,
        "#" * 2**21,
    ],
)
def test_other_files_are_refused(text, tmp_path):
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"plan \(.*plan.yaml\) must be a file that nystra.Plan.save wrote"):
        Plan.load(tmp_path / "plan.yaml")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no device without end")
def test_what_is_no_file_is_refused(tmp_path):
    for path in (Path("/dev/zero"), tmp_path):
        with pytest.raises(ValueError, match="got: a folder, a pipe or a device"):
            Plan.load(path)


@pytest.mark.parametrize(
    ("entry", "value"),
    [("precision", "float16"), ("channels_last", "yes"), ("surprise", 1), ("seconds", "soon")],
)
def test_other_entries_are_refused(entry, value, tmp_path):
    import yaml

    made().save(tmp_path / "plan.yaml")
    content = yaml.safe_load((tmp_path / "plan.yaml").read_text())
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({**content, entry: value}))
    with pytest.raises(ValueError, match="must be a file that"):
        Plan.load(tmp_path / "plan.yaml")


def test_a_plan_gives_a_net_its_kernels_and_its_memory_format():
    net = small()
    made(channels_last=True).apply(net)
    assert [site.kernel for site in nystra.find_sites(net).values()] == [LandmarkPooling(4, 16), Softmax()]
    weights = [module.weight for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    with pytest.raises(ValueError, match="must match"):
        made().apply(SwinIR(img_size=32, embed_dim=8, depths=[1], num_heads=[2], window_size=16))


def test_the_budget_holds_on_other_images_too():
    net, images = small(), torch.rand(3, 1, 3, 32, 32)
    # On the sample no kernel makes a difference; on others some do.
    sample = torch.zeros(1, 3, 32, 32)
    plan = nystra.plan(net, sample, others=list(images), budget_db=60, repeats=1)
    assert plan.checked_db >= 60 or plan.checked_db == torch.inf
    exact = [net(image) for image in images]
    plan.apply(net)
    for image, expected in zip(images, exact, strict=True):
        assert 10 * torch.log10(1 / (net(image) - expected).square().mean()) > 59.9


def test_nothing_is_tried_when_the_time_is_up():
    plan = nystra.plan(small(), torch.rand(1, 3, 32, 32), budget_db=30, repeats=1, seconds=1e-9)
    assert plan.untried == tuple(plan.choices)
    assert set(plan.kernels.values()) == {Softmax()}
    assert "2 sites were not tried" in str(plan)


def test_precisions_are_tried_within_the_budget():
    net, image = small(), torch.rand(1, 3, 32, 32)
    plan = nystra.plan(net, image, budget_db=100, candidates=[], precisions=["float32", "bf16"], repeats=1)
    assert plan.precision == "float32"
    low = nystra.plan(net, image, budget_db=20, candidates=[], precisions=["bf16"], repeats=1)
    assert low.precision == "bf16"
    assert low.fidelity_db < 100
    with pytest.raises(ValueError, match=r"precisions \(float16\)"):
        nystra.plan(net, image, budget_db=20, precisions=["float16"])


def test_every_form_is_a_candidate():
    assert {type(kernel).__name__ for kernel in CANDIDATES} >= {
        "ContentPooling",
        "LandmarkPooling",
        "Nystrom",
        "PublishedNystrom",
    }


class Attention(nn.Module):
    """Written as its authors would, with all weights in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(x).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return ((query / 2) @ key.mT).softmax(-1).matmul(value).transpose(1, 2).flatten(2)


def test_adopted_nets_are_held_against_their_own_arithmetic():
    torch.manual_seed(0)
    net, tokens = nn.Sequential(Attention(), Attention()), torch.randn(2, 256, 8)
    expected = net(tokens)
    nystra.adopt(net, tokens)
    plan = nystra.plan(net, tokens, budget_db=20, candidates=[Nystrom(), LandmarkPooling()], repeats=1)
    assert plan.host_seconds is not None
    assert set(plan.choices) == {"0", "1"}
    torch.testing.assert_close(net(tokens), expected, rtol=1e-4, atol=1e-5)


def test_weights_of_images_are_kept_channels_last_and_those_of_films_as_they_are():
    net = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv3d(4, 4, 3), nn.Linear(4, 4))
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    keep_channels_last(net)
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert net[1].weight.is_contiguous()
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
