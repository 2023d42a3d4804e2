"""Networks with any kernel that has a native program are exported and compiled with the program's operator."""

import pytest
import torch
from torch import Tensor, nn

from nystra import ContentPooling, Kernel, LandmarkPooling, Softmax
from nystra.hosts.dehazeformer.blocks import MetaWindowAttention
from nystra.programs.cpu.library import load
from nystra.sites.site import WindowAttention
from nystra.windows import Cut
from nystra.windows.position_bias import TableBias

pytestmark = pytest.mark.skipif(load() is None, reason="there are no native programs here")

KERNELS = [
    Softmax(),
    LandmarkPooling(1, 4, "own"),
    LandmarkPooling(4, 4, "cross"),
    LandmarkPooling(1, 4, "none"),
    ContentPooling(2, 4, 1),
]
SEVERAL = [Softmax(), LandmarkPooling(4, 4, "cross"), ContentPooling(2, 4, 1)]


class Attention(WindowAttention):
    """Shifted windows with a table of biases, or with masks alone."""

    def __init__(self, kernel: Kernel, biased: bool) -> None:
        super().__init__((4, 4), 2)
        self.kernel = kernel
        self.table = nn.Parameter(torch.randn(49, 2)) if biased else None

    def position_bias(self, window: tuple[int, int] | None = None) -> TableBias | None:
        return None if self.table is None else TableBias(self.table, self.trained_window_size)

    def forward(self, qkv: Tensor) -> Tensor:
        cut = Cut(tuple(qkv.shape[1:3]), (4, 4), roll=(1, 2))
        return self.kernel.over_maps(*qkv.unflatten(3, (3, 2, -1)).unbind(3), self.geometry(cut.grid, cut.roll), cut)


class Meta(MetaWindowAttention):
    """A network that makes the bias."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(6, 4, 2)
        self.kernel = kernel

    def forward(self, qkv: Tensor) -> Tensor:
        return super().forward(qkv, Cut(tuple(qkv.shape[1:3]), (4, 4)))


def maps(size: tuple[int, int]) -> Tensor:
    return torch.randn(1, *size, 18, generator=torch.Generator().manual_seed(0))


def operators(graph: torch.fx.Graph) -> int:
    return sum(str(node.target).startswith("nystra.") for node in graph.nodes)


@pytest.mark.parametrize(
    ("kernel", "biased", "size"),
    [
        *((kernel, biased, (4, 4)) for kernel in KERNELS for biased in (True, False)),
        # Windows of four kinds, not of one that holds opposite edges.
        (LandmarkPooling(4, 4, "cross"), False, (8, 8)),
        (ContentPooling(2, 4, 1), False, (8, 8)),
    ],
    ids=str,
)
@torch.no_grad()
def test_shifted_windows_are_exported(kernel, biased, size):
    torch.manual_seed(0)
    net, qkv = Attention(kernel, biased), maps(size)
    # What a trace made must not stay: outputs are compared afterwards.
    exported = torch.export.export(net, (qkv,))
    assert operators(exported.graph) == 1
    assert torch.equal(exported.module()(qkv), net(qkv))


@pytest.mark.parametrize("kernel", SEVERAL, ids=str)
@torch.no_grad()
def test_a_network_that_makes_a_bias_is_exported_and_followed(kernel):
    torch.manual_seed(0)
    net, qkv = nn.Sequential(Meta(kernel)), maps((8, 8))
    program = torch.export.export(net, (qkv,))
    assert operators(program.graph) == 1
    assert torch.equal(program.module()(qkv), net(qkv))
    other = nn.Sequential(Meta(kernel))
    exported = program.module()
    exported.load_state_dict({name: other.state_dict()[name] for name in exported.state_dict()})
    assert torch.equal(exported(qkv), other(qkv))


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@torch.no_grad()
def test_shifted_windows_are_compiled(kernel):
    torch.manual_seed(0)
    net, qkv = Attention(kernel, biased=True), maps((4, 4))
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(qkv), net(qkv))
    net.table.data.mul_(2)
    assert torch.equal(compiled(qkv), net(qkv))
