"""What stands beside the weights: windows and kernels, written as plain data, restored with them or left out."""

import copy

import pytest
import torch
from torch.testing import assert_close

import nystra
from glmha.shared.checkpoint_files import CheckpointError, read
from nystra.hosts.dehazeformer.network import DehazeFormer
from nystra.hosts.swinir.network import SwinIR
from nystra.hosts.uformer.network import Uformer
from nystra.sites import attention_record
from nystra.sites.site import AttendedMap

KERNELS = [
    nystra.ContentPooling(),
    nystra.ContentPooling(4, 8, 1),
    nystra.LandmarkPooling(4, 16, "own"),
    nystra.Nystrom(4, 8, 0.1),
    nystra.Nystromformer(4, 3),
    nystra.Performer(16, seed=3),
    nystra.PrintedNystrom(4),
    nystra.PublishedNystrom(4, 2, 1.0),
    nystra.Softmax(),
]


def swinir() -> SwinIR:
    torch.manual_seed(0)
    return SwinIR(img_size=16, embed_dim=8, depths=[2], num_heads=[2], window_size=4, mlp_ratio=2.0).eval()


HOSTS = {
    "SwinIR": swinir,
    "Uformer": lambda: Uformer(img_size=32, embed_dim=4, depths=[1] * 9, num_heads=[1] * 9, win_size=4).eval(),
    "DehazeFormer": lambda: DehazeFormer(
        embed_dims=(4, 8, 8, 8, 4), depths=(1, 2, 2, 1, 1), num_heads=(1, 2, 2, 1, 1), attn_ratio=(0, 0.5, 1, 0, 0)
    ).eval(),
}


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_every_kernel_is_recorded_as_plain_data(kernel, tmp_path):
    torch.save(attention_record.encode_kernel(kernel), tmp_path / "kernel.pth")
    assert attention_record.decode_kernel(read(tmp_path / "kernel.pth")) == kernel


@pytest.mark.parametrize("host", HOSTS)
def test_windows_and_kernels_are_restored_with_the_weights(host, tmp_path):
    net = HOSTS[host]()
    released = copy.deepcopy(net)
    assert attention_record.record(net) == {}
    net.set_window(8, "interpolate")
    nystra.substitute(net, nystra.LandmarkPooling(4, 16, "own"))
    nystra.substitute(net, nystra.Nystrom(4, 8), sites=list(nystra.find_sites(net))[-1])
    torch.save(
        {"state_dict": net.state_dict(), attention_record.KEY: attention_record.record(net)}, tmp_path / "net.pth"
    )
    # What upstream's code finds: its own keys and tensors.
    released.load_state_dict(read(tmp_path / "net.pth")["state_dict"], strict=True)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        loaded = nystra.load_pretrained(tmp_path / "net.pth")
        assert attention_record.record(loaded) == attention_record.record(net)
        assert_close(loaded(image), net(image))
        exact = nystra.load_pretrained(tmp_path / "net.pth", recorded=False)
        assert attention_record.record(exact) == {}
        assert_close(exact(image), released.eval()(image))
        # The recorded treatment of the bias stays when only the window is chosen.
        smaller = nystra.load_pretrained(tmp_path / "net.pth", window_size=16)
        assert attention_record.record(smaller)["position_bias"] == "interpolate"
        assert smaller.window_size == 16


@pytest.mark.parametrize("host", HOSTS)
def test_attended_maps_do_not_depend_on_windows(host):
    """A kernel that hands on the values makes the same map in windows of any size and shift, in the image's order."""
    net = HOSTS[host]()
    nystra.substitute(net, Values())
    maps: dict[str, list[torch.Tensor]] = {}
    for name, module in net.named_modules():
        if isinstance(module, AttendedMap):
            module.register_forward_hook(lambda _m, _i, out, name=name: maps.setdefault(name, []).append(out))
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for window in (4, 8):
            net.set_window(window)
            net.eval()(image)
    assert len(maps) == len(nystra.find_sites(net))
    for first, second in maps.values():
        assert_close(first, second, rtol=1e-4, atol=1e-5)


class Values(nystra.Softmax):
    """No attention: each token keeps its value."""

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, tables: object) -> torch.Tensor:
        return value


class Foreign(nystra.Softmax):
    """A kernel of someone else's."""


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"kernels": {"nowhere": {"class": "Softmax"}}}, "unknown site nowhere"),
        ({"kernels": {"layers.0.residual_group.blocks.0.attn": {"class": "os.system"}}}, "must be one of"),
        ({"kernels": {"layers.0.residual_group.blocks.0.attn": {"class": "Nystrom", "tokens": 4}}}, "its arguments"),
        (
            {"kernels": {"layers.0.residual_group.blocks.0.attn": {"class": "Nystrom", "landmarks": 0}}},
            r"landmarks \(0\)",
        ),
        ({"windows": 8}, "must hold window_size, position_bias and kernels"),
        ({"window_size": 0}, "window_size"),
    ],
)
def test_a_record_that_is_none_of_the_nets_is_refused(record, message):
    with pytest.raises(CheckpointError, match=message):
        nystra.load_pretrained({"state_dict": swinir().state_dict(), attention_record.KEY: record})


def test_windows_of_a_net_that_is_no_host_cannot_be_set():
    site = nystra.find_sites(swinir())["layers.0.residual_group.blocks.0.attn"]
    attention_record.apply(site, {"kernels": {"": attention_record.encode_kernel(nystra.Nystrom(4, 8))}})
    assert site.kernel == nystra.Nystrom(4, 8)
    with pytest.raises(ValueError, match=r"net \(SwinAttention\) must be a nystra\.sites\.WindowHost"):
        attention_record.apply(site, {"window_size": 8})


def test_a_foreign_kernel_is_not_recorded():
    net = swinir()
    nystra.substitute(net, Foreign())
    with pytest.raises(ValueError, match=r"kernel \(Foreign\) must be one of"):
        attention_record.record(net)


@pytest.mark.parametrize("wrong", [2.0, True, float("nan"), 10**30, "2"])
@pytest.mark.parametrize("name", ["landmarks", "cells", "near"])
def test_numbers_of_other_types_are_refused(name, wrong):
    with pytest.raises(ValueError, match="recorded kernel"):
        attention_record.decode_kernel(attention_record.encode_kernel(nystra.ContentPooling()) | {name: wrong})


def test_what_no_checkpoint_could_hold_is_refused_before_it_is_trained():
    with pytest.raises(ValueError, match=r"window size \(65\) must be at most 64 tokens"):
        SwinIR(img_size=130, embed_dim=4, depths=[1], num_heads=[1], window_size=65)
    net = swinir()
    with pytest.raises(ValueError, match=r"window_size \(1025\) must be at most 1024 tokens"):
        net.set_window(1025)
    nystra.substitute(net, nystra.Nystromformer(landmarks=4, iterations=2**21))
    with pytest.raises(ValueError, match=r"iterations \(2097152\) must be a whole number of at most"):
        attention_record.record(net)
