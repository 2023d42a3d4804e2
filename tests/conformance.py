"""The contract of a host, as functions that any network of images or films can be held to; `CHECKS` are all of them.

A host is a small network with random weights and the function that loads its checkpoints: one of `glmha`, of `nystra`,
or of another library. `tests/test_conformance.py` runs every check on every host of this package.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close

import glmha
import nystra
from glmha.shared.image_network import image_rules
from nystra.sites.host import WindowHost
from tests.glmha.randomised import randomise

Size = tuple[int, int]

ATTENTIONS: tuple[Callable[..., nn.Module], ...] = (
    glmha.ChannelAttention,
    functools.partial(glmha.GLMHA, reduction=0.25, alpha=0.3),
    functools.partial(glmha.LinformerChannelAttention, reduction=0.75),
    functools.partial(glmha.PerformerChannelAttention, features=8, seed=4),
    functools.partial(glmha.ReformerChannelAttention, buckets=2, rounds=1),
)


@dataclasses.dataclass(frozen=True)
class Host:
    """A network to be held to the contract.

    Attributes:
        make: builds the network, small; takes `attention=` where `takes_attention`.
        load: state dict, checkpoint or path of a file → the network that it belongs to, loaded.
        shapes: number of images, height and width → shapes of the inputs of a call.
        taken: heights and widths that the network takes, its smallest and odd ones among them.
        refused: heights and widths that it refuses.
        coupled: whether the first image of a batch may change the others' results, as in upstream's masks.
        pads: whether the network pads by itself what `image_rules` would have padded, and takes sizes that do not fit.
        takes_attention: whether the channel attention is an argument of the constructor.
    """

    make: Callable[..., nn.Module]
    load: Callable[[Any], nn.Module]
    shapes: Callable[[int, int, int], Sequence[tuple[int, ...]]]
    taken: Sequence[Size]
    refused: Sequence[Size] = ()
    coupled: bool = False
    pads: bool = False
    takes_attention: bool = False

    def build(self, **options: Any) -> nn.Module:
        """The network with the same random weights at every call, in eval mode."""
        torch.manual_seed(0)
        return randomise(self.make(**options)).eval()

    def inputs(self, size: Size, count: int = 1) -> list[Tensor]:
        """Inputs of a call, uniform in [0, 1)."""
        generator = torch.Generator().manual_seed(3)
        return [torch.rand(shape, generator=generator) for shape in self.shapes(count, *size)]


@torch.no_grad()
def run(net: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    """Call a network without gradients."""
    return net(*inputs)


def relative(difference: Tensor, of: Tensor) -> float:
    """Quotient of two norms."""
    return float(difference.double().norm() / of.double().norm())


def check_checkpoints(host: Host, folder: Path) -> None:
    """Its own state dict comes back, from a path or as a dictionary, wrapped or not, and the class is inferred."""
    net = host.build()
    weights, inputs = net.state_dict(), host.inputs(host.taken[0])
    expected = run(net, inputs)
    parallel = {f"module.{key}": value for key, value in weights.items()}
    save_file(weights, folder / "net.safetensors")
    torch.save(weights, folder / "net.pth")
    torch.save({"params": {}, "params_ema": parallel, "epoch": 3}, folder / "wrapped.pth")
    files = [folder / name for name in ("net.safetensors", "net.pth", "wrapped.pth")]
    sources: list[Path | str | Mapping[str, Any]] = [*files, str(files[0]), weights, parallel, {"state_dict": parallel}]
    for source in sources:
        loaded = host.load(source)
        assert type(loaded) is type(net)
        assert not loaded.training
        assert list(loaded.state_dict()) == list(weights)
        assert {tensor.dtype for tensor in loaded.parameters()} == {torch.float32}
        assert torch.equal(run(loaded, inputs), expected)


def check_sizes(host: Host, folder: Path) -> None:
    """Results have the input's size times `scale`; taken sizes fit `image_rules`, refused ones are named."""
    net = host.build()
    rules = image_rules(net)
    for height, width in host.taken:
        result = run(net, host.inputs((height, width), 2))
        assert len(result) == 2
        assert result.shape[-2:] == (rules.scale * height, rules.scale * width)
        assert result.isfinite().all()
        assert host.pads or (rules.fits(height) and rules.fits(width))
    for size in host.refused:
        with pytest.raises(ValueError, match=f"{size[0]}×{size[1]}"):
            run(net, host.inputs(size))
        assert not all(rules.fits(side) for side in size)


def check_range(host: Host, folder: Path) -> None:
    """`value_range` is two ascending numbers, and results are finite at both."""
    net = host.build()
    low, high = image_rules(net).value_range
    assert -math.inf < low < high < math.inf
    for value in (low, high):
        assert run(net, [torch.full_like(tensor, value) for tensor in host.inputs(host.taken[0])]).isfinite().all()


def check_precision(host: Host, folder: Path) -> None:
    """Results in float64 are those of float32 but for rounding; autocast to bfloat16 stays within a few percent."""
    net, inputs = host.build(), host.inputs(host.taken[0])
    single = run(net, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        half = run(net, inputs)
    double = run(net.double(), [tensor.double() for tensor in inputs])
    assert double.dtype == torch.float64
    assert relative(single - double, double) < 1e-4
    assert relative(half - double, double) < 0.1


def check_repeatability(host: Host, folder: Path) -> None:
    """In eval mode the same input gives the same result, bit for bit, and an image does not depend on its batch."""
    net, inputs = host.build(), host.inputs(host.taken[0], 3)
    first = run(net, inputs)
    assert torch.equal(run(net, inputs), first)
    net, inputs = net.double(), [tensor.double() for tensor in inputs]
    alone = slice(0, 1) if host.coupled else slice(1, 2)
    together = run(net, inputs)[alone]
    assert relative(run(net, [tensor[alone] for tensor in inputs]) - together, together) < 1e-9


def check_substitution(host: Host, folder: Path) -> None:
    """Other kernels go into every site and come out without a trace; with a landmark for each token they are exact."""
    net, inputs = host.build(), host.inputs(host.taken[0])
    keys, exact = list(net.state_dict()), run(net, inputs)
    report = nystra.substitute(net, nystra.LandmarkPooling(4, 4, "none"))
    assert [site.name for site in report.sites] == list(nystra.find_sites(net))
    substituted = run(net, inputs)
    assert substituted.shape == exact.shape
    assert substituted.isfinite().all()
    assert not torch.equal(substituted, exact)
    assert list(net.state_dict()) == keys
    nystra.substitute(
        net, {site.name: nystra.LandmarkPooling(site.tokens, site.tokens, "none") for site in report.sites}
    )
    assert relative(run(net, inputs) - exact, exact) < 1e-4
    nystra.substitute(net, nystra.Softmax())
    assert torch.equal(run(net, inputs), exact)


def check_windows(host: Host, folder: Path) -> None:
    """Windows of another size and treatment of the bias act, change no key, and leave no trace when they are undone."""
    net, inputs = host.build(), host.inputs(host.taken[-1])
    assert isinstance(net, WindowHost)
    window, weights, exact = net.window_size, net.state_dict(), run(net, inputs)
    results = [exact]
    for mode in ("keep", "interpolate", "drop"):
        net.set_window(2 * window, mode)
        assert net.window_size == 2 * window
        results.append(run(net, inputs))
        assert all(relative(results[-1] - other, exact) > 1e-5 for other in results[:-1])
        assert {key: value.shape for key, value in net.state_dict().items()} == {
            key: value.shape for key, value in weights.items()
        }
    assert {result.shape for result in results} == {exact.shape}
    net.set_window(window)
    assert torch.equal(run(net, inputs), exact)


def check_attentions(host: Host, folder: Path) -> None:
    """Every channel attention of this package goes in, learns, and is inferred from a file with its options."""
    inputs = host.inputs(host.taken[0])
    for number, attention in enumerate(ATTENTIONS):
        net = host.build(attention=attention)
        net(*inputs).square().mean().backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
        path = folder / f"{number}.safetensors"
        save_file(net.state_dict(), path)
        assert_close(run(host.load(path), inputs), run(net, inputs))


CHECKS: tuple[Callable[[Host, Path], None], ...] = (
    check_checkpoints,
    check_sizes,
    check_range,
    check_precision,
    check_repeatability,
)
WINDOW_CHECKS = (check_substitution, check_windows)
CHANNEL_CHECKS = (check_attentions,)


def checks(host: Host) -> tuple[Callable[[Host, Path], None], ...]:
    """The checks that apply to a host: those of windows where it has sites, those of factories where it takes them."""
    with torch.device("meta"):
        windows = isinstance(host.make(), WindowHost)
    return (*CHECKS, *(WINDOW_CHECKS if windows else ()), *(CHANNEL_CHECKS if host.takes_attention else ()))
