"""Tables that are kept of a position bias: those of the present parameters, whoever wrote them, and made once."""

import concurrent.futures
import contextlib
import copy
import pickle
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from nystra import ContentPooling, LandmarkPooling, Nystrom, Softmax, WindowGeometry
from nystra.hosts.dehazeformer.blocks import MetaWindowAttention
from nystra.programs.cpu.library import load
from nystra.programs.operators import plain_torch
from nystra.sites.site import WindowAttention
from nystra.windows import Cut
from nystra.windows.position_bias import TableBias

KERNELS = [Softmax(), LandmarkPooling(4, 4), ContentPooling(2, 4, 1), Nystrom(4, 4)]


class OfTable(WindowAttention):
    """Attention in shifted windows with a table of biases; of queries, keys and values side by side."""

    roll = (2, 2)

    def __init__(self) -> None:
        super().__init__((4, 4), 2)
        self.table = nn.Parameter(torch.randn(49, 2))

    def position_bias(self, window: tuple[int, int] | None = None) -> TableBias:
        return TableBias(self.table, self.trained_window_size)

    def forward(self, qkv: Tensor) -> Tensor:
        cut = Cut(tuple(qkv.shape[1:3]), (4, 4), roll=self.roll)
        return self.kernel.over_maps(*qkv.unflatten(3, (3, 2, -1)).unbind(3), self.geometry(cut.grid, cut.roll), cut)


class OfNetwork(MetaWindowAttention):
    """Attention with a bias that a network makes."""

    def __init__(self) -> None:
        super().__init__(4, 4, 2)

    def forward(self, qkv: Tensor) -> Tensor:
        return super().forward(qkv, Cut(tuple(qkv.shape[1:3]), (4, 4)))


class Shift(nn.Module):
    """What is no parameter may count."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.rand(256))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


def make(network: type[WindowAttention]) -> WindowAttention:
    torch.manual_seed(0)
    return network().eval()


def tokens(net: nn.Module) -> Tensor:
    qkv = torch.randn(1, 8, 12, 12, generator=torch.Generator().manual_seed(0))
    return qkv.to(next(net.parameters()).dtype)


def assert_as_a_copy(net: nn.Module) -> Tensor:
    """That a copy, which has kept nothing, gives the same outputs."""
    result = net(tokens(net))
    torch.testing.assert_close(result, copy.deepcopy(net)(tokens(net)), rtol=0, atol=0, equal_nan=True)
    return result


def others(value: Tensor) -> Tensor:
    return value + torch.randn(value.shape, generator=torch.Generator().manual_seed(1))


def each(write: Callable[[Tensor], object]) -> Callable[[nn.Module], None]:
    def run(net: nn.Module) -> None:
        for parameter in net.parameters():
            write(parameter)

    return run


def replace(net: nn.Module) -> None:
    for module in net.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(others(value.detach())))


def write_data(parameter: Tensor) -> None:
    parameter.data = others(parameter.data)


def load_weights(net: nn.Module, assign: bool) -> None:
    net.load_state_dict({key: others(value) for key, value in net.state_dict().items()}, assign=assign)


WRITES = {
    "in place": torch.no_grad()(each(lambda value: value.copy_(others(value)))),
    "in inference": torch.inference_mode()(each(lambda parameter: parameter.copy_(others(parameter)))),
    "data": each(lambda parameter: parameter.data.copy_(others(parameter.data))),
    "other data": each(write_data),
    "a part": each(lambda parameter: parameter.detach().flatten()[:2].zero_()),
    "numpy": each(lambda parameter: parameter.detach().numpy().__imul__(-2)),
    "swapped": each(lambda value: torch.utils.swap_tensors(value, nn.Parameter(others(value.detach())))),
    "replaced": replace,
    "loaded": lambda net: load_weights(net, assign=False),
    "assigned": lambda net: load_weights(net, assign=True),
    "wider": lambda net: each(write_data)(net.double()),
    "rounded": lambda net: net.bfloat16().float(),
    "not a number": each(lambda parameter: parameter.data.fill_(torch.nan)),
}


@pytest.fixture(params=["native", "plain"])
def way(request) -> Iterator[None]:
    if request.param == "native" and load() is None:
        pytest.skip("there are no native programs here")
    with plain_torch() if request.param == "plain" else contextlib.nullcontext():
        yield


of_both = pytest.mark.parametrize("network", [OfTable, OfNetwork])


@of_both
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.usefixtures("way")
def test_outputs_follow_whoever_writes_a_parameter(network, write):
    net = make(network)
    with torch.no_grad():
        before = net(tokens(net))
        WRITES[write](net)
        assert not torch.equal(assert_as_a_copy(net), before)


@of_both
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
@pytest.mark.usefixtures("way")
def test_outputs_of_every_kernel_follow_the_parameters(network, kernel):
    net = make(network)
    net.kernel = kernel
    with torch.no_grad():
        before = net(tokens(net))
        WRITES["data"](net)
        assert not torch.equal(assert_as_a_copy(net), before)


@of_both
@pytest.mark.parametrize("write", ["in place", "data", "replaced", "loaded"])
@pytest.mark.usefixtures("way")
def test_outputs_follow_parameters_that_were_made_in_inference_mode(network, write):
    with torch.inference_mode():
        net = make(network)
        before = net(tokens(net))
        WRITES[write](net)
        assert not torch.equal(assert_as_a_copy(net), before)


@of_both
@pytest.mark.usefixtures("way")
def test_outputs_are_those_of_the_parameters_of_a_functional_call(network):
    net = make(network)
    other = copy.deepcopy(net)
    WRITES["data"](other)
    with torch.no_grad():
        before = net(tokens(net))
        result = torch.func.functional_call(net, dict(other.named_parameters()), (tokens(net),))
        assert torch.equal(result, other(tokens(net)))
        assert torch.equal(net(tokens(net)), before)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@of_both
@torch.no_grad()
def test_parameters_of_many_networks_at_once(network):
    nets = [make(network) for _ in range(2)]
    # In windows of one kind: torch.func.vmap cannot put together those of several.
    for net in nets:
        net.roll = (0, 0)
    WRITES["data"](nets[1])
    with plain_torch():
        qkv = tokens(nets[0])
        together, _ = torch.func.stack_module_state(nets)
        call = torch.func.vmap(lambda some: torch.func.functional_call(nets[0], some, (qkv,)))
        # Without kept tables, and with some.
        for _ in range(2):
            torch.testing.assert_close(call(together), torch.stack([net(qkv) for net in nets]))


@pytest.mark.usefixtures("way")
@torch.no_grad()
def test_outputs_follow_the_settings_of_a_network_that_makes_a_bias():
    net = make(OfNetwork)
    changes: list[Callable[[nn.Sequential], object]] = [
        lambda meta: meta.__setitem__(1, nn.LeakyReLU(0.1)),
        lambda meta: setattr(meta[1], "negative_slope", 0.5),
        lambda meta: meta.insert(1, Shift()),
        lambda meta: meta[1].shift.data.add_(1),
        lambda meta: torch.nn.utils.parametrizations.weight_norm(meta[0]),
        lambda meta: meta[0].parametrizations.weight.original0.data.mul_(2),
        lambda meta: meta.insert(2, nn.Softsign()),
    ]
    for change in changes:
        net(tokens(net))
        change(net.meta)
        assert_as_a_copy(net)


@of_both
@pytest.mark.usefixtures("way")
@torch.no_grad()
def test_tables_made_under_autocast_serve_without_it(network):
    net = make(network)
    with torch.autocast("cpu", torch.bfloat16):
        net(tokens(net))
    rounded = tokens(net).bfloat16()
    assert torch.equal(net(rounded), copy.deepcopy(net)(rounded))


@of_both
@pytest.mark.parametrize("number", [0.0, torch.nan, torch.inf])
@torch.no_grad()
def test_tables_are_made_once_while_nothing_changes(network, number, monkeypatch):
    net = make(network)
    each(lambda parameter: parameter.data.flatten()[:3].fill_(number))(net)
    expected = net(tokens(net))
    kept = dict(net._tables)
    assert kept
    net.load_state_dict(copy.deepcopy(net.state_dict()), assign=True)
    for _ in range(2):
        torch.testing.assert_close(net(tokens(net)), expected, rtol=0, atol=0, equal_nan=True)
    assert {key: id(value) for key, value in net._tables.items()} == {key: id(value) for key, value in kept.items()}
    copied = pickle.loads(pickle.dumps(net))
    assert not copied._tables
    torch.testing.assert_close(copied(tokens(net)), expected, rtol=0, atol=0, equal_nan=True)


def test_threads_that_share_tables_of_different_parameters():
    biases = [TableBias(others(factor * torch.ones(49, 2)), (4, 4)) for factor in range(3)]
    inputs = torch.randn(3, 6, 2, 16, 3, generator=torch.Generator().manual_seed(0))
    expected = [Softmax()(*inputs, WindowGeometry((4, 4), bias=bias)) for bias in biases]
    tables: dict = {}

    def call(number: int) -> Tensor:
        return Softmax()(*inputs, WindowGeometry((4, 4), bias=biases[number % 3], tables=tables))

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for number, result in enumerate(pool.map(call, range(60))):
            assert torch.equal(result, expected[number % 3])
    assert len(tables) == 1
