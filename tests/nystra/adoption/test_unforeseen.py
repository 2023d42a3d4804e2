"""Whatever an adopted module does to its logits and weights, results and gradients are the network's own."""

import contextlib
import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import nystra
from tests.nystra.adoption.arithmetic import BODIES, HEADS, TOKENS, plain


class Any(nn.Module):
    """Attention (B, N, C) → (B, N, C) whose arithmetic can be exchanged; exact while it is adopted."""

    def __init__(self, body=None):
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.bias = nn.Parameter(torch.randn(HEADS, TOKENS, TOKENS))
        self.gate = nn.Parameter(torch.rand(HEADS, 1, 1))
        self.body = body or plain

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        result = self.body(self, q, k, v)
        if isinstance(result, tuple):
            # Something was kept for later, when the module has returned.
            return result[0], *(part if torch.is_tensor(part) else torch.as_tensor(part) for part in result[1:])
        return result


class Softmax(torch.autograd.Function):
    """Softmax with a backward of its own, which doubles gradients."""

    @staticmethod
    def forward(ctx, a):
        w = a.softmax(-1)
        ctx.save_for_backward(w)
        return w

    @staticmethod
    def backward(ctx, gradient):
        (w,) = ctx.saved_tensors
        return 2 * w * (gradient - (w * gradient).sum(-1, keepdim=True))


@pytest.fixture(scope="module")
def adopted():
    """An adopted module, whose arithmetic tests exchange for others."""
    torch.manual_seed(0)
    net = Any().eval()
    report = nystra.adopt(net, torch.rand(2, TOKENS, 8))
    assert report.rows[0].window == (4, 4)
    return net


def results(net, x, *, gradients):
    """Results of a call, and their gradients by the input and all parameters."""
    net.zero_grad()
    x = x.clone().requires_grad_(gradients)
    with contextlib.nullcontext() if gradients else torch.no_grad():
        found = net(x)
    found = list(found) if isinstance(found, tuple) else [found]
    if gradients:
        sum(part.float().square().sum() for part in found if part.requires_grad).backward()
        found += [x.grad, *(parameter.grad for parameter in net.parameters())]
    return [None if part is None else part.detach() + 0 for part in found]


def assert_same(present, expected):
    assert len(present) == len(expected)
    for one, other in zip(present, expected, strict=True):
        if other is None or not other.any():
            assert one is None or not one.any()
        else:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * max(1, float(other.abs().max())))


@pytest.mark.parametrize("gradients", [False, True], ids=["inference", "gradients"])
@pytest.mark.parametrize("name", BODIES)
def test_results_are_the_networks_own(name, gradients, adopted):
    host = Any(BODIES[name]).eval()
    host.load_state_dict(adopted.state_dict())
    x = torch.randn(2, TOKENS, 8)
    expected = results(host, x, gradients=gradients)
    adopted.body = BODIES[name]
    assert_same(results(adopted, x, gradients=gradients), expected)


class Recomputing(nn.Module):
    """Attention whose own forward recomputes a part of it in the backward pass."""

    def __init__(self, part, *, reentrant):
        super().__init__()
        self.qkv, self.part, self.options = nn.Linear(8, 24), part, {"use_reentrant": reentrant}

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return self.part(q, k, v, self.options)


def whole_attention(q, k, v, options):
    return checkpoint(lambda q, k, v: ((q @ k.mT) / 2).softmax(-1) @ v, q, k, v, **options)


def weights_alone(q, k, v, options):
    return checkpoint(lambda q, k: ((q @ k.mT) / 2).softmax(-1), q, k, **options) @ v


def softmax_alone(q, k, v, options):
    return checkpoint(lambda a: (a / 2).softmax(-1), q @ k.mT, **options) @ v


def sum_alone(q, k, v, options):
    return checkpoint(lambda w, v: w @ v, ((q @ k.mT) / 2).softmax(-1), v, **options)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("part", [whole_attention, weights_alone, softmax_alone, sum_alone])
def test_recomputation_inside_attention_has_the_same_gradients_or_is_refused(part, reentrant):
    torch.manual_seed(0)
    host, x = Recomputing(part, reentrant=reentrant).eval(), torch.randn(2, TOKENS, 8)
    adopted = copy.deepcopy(host)
    nystra.adopt(adopted, x)
    with torch.no_grad():
        torch.testing.assert_close(adopted(x), host(x), rtol=1e-4, atol=1e-5)
    results = []
    for net in (host, adopted):
        given = x.clone().requires_grad_()
        result = net(given)
        if net is adopted and reentrant and part in (softmax_alone, sum_alone):
            # What was noted goes into a function that torch does not show.
            with pytest.raises(RuntimeError, match="exclude of"):
                result.sum().backward()
            return
        result.square().sum().backward()
        results.append([result.detach(), given.grad, *(parameter.grad for parameter in net.parameters())])
    for found, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_recomputation_is_noted_where_the_kernel_is_not_at_work():
    torch.manual_seed(0)
    net, x = Recomputing(whole_attention, reentrant=False).eval(), torch.randn(2, TOKENS, 8)
    expected = net(x)
    nystra.adopt(net, x)
    nystra.substitute(net, nystra.LandmarkPooling(1, 4, "none"))
    with torch.no_grad():
        assert not torch.allclose(net(x), expected, atol=1e-3)
    with pytest.warns(UserWarning, match="computed again in the backward pass"):
        torch.testing.assert_close(net(x), expected)
