"""Networks give the same for a whole image and row by row, wherever maps are kept, and are as before afterwards."""

import tempfile
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from glmha import (
    GLMHA,
    RGBMST,
    LinformerChannelAttention,
    MSTPlusPlus,
    OutOfCore,
    Restormer,
)
from glmha.out_of_core import network
from nystra import SwinIR

SMALL = {"dim": 8, "num_blocks": (1, 2, 1, 1), "num_refinement_blocks": 1}
NETS = {
    "Restormer": (partial(Restormer, **SMALL), (2, 3, 72, 24)),
    "Restormer GLMHA": (partial(Restormer, **SMALL, attention=GLMHA), (1, 3, 72, 24)),
    "dual pixel": (
        partial(Restormer, **SMALL, inp_channels=6, dual_pixel_task=True, bias=True, LayerNorm_type="BiasFree"),
        (1, 6, 40, 16),
    ),
    "MST++": (partial(MSTPlusPlus, n_feat=8, out_channels=8, stage=2), (1, 3, 67, 21)),
    "MST++ GLMHA": (partial(MSTPlusPlus, n_feat=8, out_channels=8, stage=1, attention=GLMHA), (1, 3, 67, 21)),
    "MST with a mask": (
        partial(RGBMST, dim=8, stage=2, num_blocks=(1, 1, 1), attention=partial(GLMHA, kernel_size=5)),
        (1, 3, 67, 21),
    ),
}


def made(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    """A network whose scales and biases are not those of its start, and an image."""
    torch.manual_seed(0)
    build, shape = NETS[name]
    net = build().eval()
    for parameter in net.parameters():
        if parameter.ndim in (1, 3):
            parameter.data += 0.3 * torch.randn_like(parameter)
    return net, torch.rand(shape)


@pytest.mark.parametrize("kept", ["memory", "files"])
@pytest.mark.parametrize("name", NETS)
def test_results_are_those_of_the_whole_image(name, kept, monkeypatch, tmp_path):
    net, image = made(name)
    # Bands of the fewest rows.
    monkeypatch.setattr(network, "BAND", 0.0)
    monkeypatch.setattr(network, "KEPT", 0.4 if kept == "memory" else 0.0)
    opened = []
    make = tempfile.TemporaryFile

    def noted(**options):
        opened.append(options["dir"])
        return make(**options)

    monkeypatch.setattr(tempfile, "TemporaryFile", noted)
    blocks = []
    by_rows = OutOfCore(net, 2**26, tmp_path, lambda done, total: blocks.append((done, total)))
    with torch.inference_mode():
        expected = net(image)
        assert_close(by_rows(image), expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(net(image), expected)
    assert set(opened) == ({tmp_path} if kept == "files" else set())
    assert not list(tmp_path.iterdir())
    assert blocks[-1][0] == blocks[-1][1] == len(blocks) / len(image)


def test_the_memory_of_maps_comes_back_when_they_are_read(monkeypatch):
    net, image = made("Restormer")
    stores = []
    make = network.Store
    monkeypatch.setattr(network, "Store", lambda *options: stores.append(make(*options)) or stores[-1])
    with torch.inference_mode():
        OutOfCore(net, 2**26)(image)
    assert {store.free for store in stores} == {int(network.KEPT * 2**26)}


def test_a_network_that_fails_is_as_before():
    net, image = made("Restormer")
    with pytest.raises(RuntimeError), torch.inference_mode():
        OutOfCore(net, 2**26)(torch.rand(1, 4, 16, 16))
    with torch.inference_mode():
        assert net(image).shape == image.shape


def test_what_the_network_states_is_stated():
    net, _ = made("Restormer")
    assert OutOfCore(net, 2**26).size_multiple == 8
    assert not hasattr(OutOfCore(net, 2**26), "scale")


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (partial(Restormer, **SMALL, attention=LinformerChannelAttention), "LinformerChannelAttention channel"),
        (partial(SwinIR, depths=(2,), embed_dim=8, num_heads=(2,), window_size=4), "SwinIR with no channel attention"),
    ],
)
def test_other_networks_are_refused(net, message):
    with pytest.raises(ValueError, match=message):
        OutOfCore(net(), 2**26)


def test_too_little_memory_is_refused():
    with pytest.raises(ValueError, match=r"max_memory \(1000 bytes\) must be at least"):
        OutOfCore(made("Restormer")[0], 1000)
