"""What training, copies, precisions, threads and compilers do with adopted networks is what they do with others."""

import copy
import threading

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import nystra
from tests.nystra.adoption import window_hosts as hosts
from tests.nystra.adoption.arithmetic import HEADS, TOKENS, plain
from tests.nystra.adoption.test_unforeseen import Any, Softmax

C = 8


def windows(attention=hosts.TableAttention, **options):
    return hosts.Windows(lambda: attention(C, 2, 4, **options), (4, 4), (2, 2))


def pair(make=windows):
    """A network, the same adopted, and an image."""
    torch.manual_seed(0)
    host = make().eval()
    adopted = copy.deepcopy(host)
    image = torch.randn(2, C, 8, 12)
    assert nystra.adopt(adopted, image).taken
    return host, adopted, image


def gradients(net, image):
    net.zero_grad()
    net(image).square().mean().backward()
    return {name: parameter.grad for name, parameter in net.named_parameters()}


def zero_pairs():
    net = windows(hosts.PairBias)
    for name, parameter in net.named_parameters():
        if name.endswith("pairs"):
            nn.init.zeros_(parameter)
    return net


NETWORKS = {
    "table": windows,
    "network of offsets": lambda: windows(hosts.CosineAttention),
    "pairs, all zero": zero_pairs,
    "heads first": lambda: windows(hosts.HeadsFirst),
    "grid": lambda: hosts.GridAttention(C, 2, 4, bias=True),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_the_networks_own(name):
    host, adopted, image = pair(NETWORKS[name])
    expected, found = gradients(host, image), gradients(adopted, image)
    for parameter, gradient in expected.items():
        if gradient is None:
            assert found[parameter] is None
        else:
            bound = 1e-5 * float(gradient.abs().max()) + 1e-8
            torch.testing.assert_close(found[parameter], gradient, rtol=1e-4, atol=bound, msg=parameter)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_follows_inference_mode(name):
    """What was kept in inference mode could not be saved for a backward pass."""
    host, adopted, image = pair(NETWORKS[name])
    with torch.inference_mode():
        result = adopted(image)
    torch.testing.assert_close(result, host(image), rtol=1e-4, atol=1e-5)
    assert gradients(adopted, image).keys() == gradients(host, image).keys()
    adopted.requires_grad_(False)
    image.requires_grad_()
    found, expected = (torch.autograd.grad(net(image).square().sum(), image)[0] for net in (adopted, host))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_attention_that_is_not_met_again_is_noted():
    torch.manual_seed(0)
    net, x = nn.TransformerEncoderLayer(C, 2, 16, batch_first=True).eval(), torch.randn(2, TOKENS, C)
    padding = torch.arange(TOKENS).expand(2, -1) > 9
    expected = net(x, src_key_padding_mask=padding)[:, :9]
    nystra.adopt(net, x)
    torch.testing.assert_close(net(x, src_key_padding_mask=padding)[:, :9], expected)
    assert nystra.find_sites(net)["self_attn"].notes == ["attention was not met as on the sample"]


def test_a_step_of_training_changes_what_is_computed():
    host, adopted, image = pair()
    for net in (host, adopted):
        gradients(net, image)
        torch.optim.SGD(net.parameters(), lr=1.0).step()
    torch.testing.assert_close(adopted(image), host(image), rtol=1e-4, atol=1e-4)


def test_dropout_of_weights_is_the_networks_own_and_noted():
    host, adopted, image = pair(lambda: windows(dropout=0.5))
    results = []
    for net in (host.train(), adopted.train()):
        torch.manual_seed(1)
        results.append(net(image))
    torch.testing.assert_close(results[1], results[0])
    assert nystra.find_sites(adopted)["plain"].notes == ["dropout of the weights is computed"]


@pytest.mark.parametrize("kernel", [nystra.Softmax(), nystra.LandmarkPooling(1, 16, "none")])
def test_lower_precision_is_as_near_as_the_networks_own(kernel):
    host, adopted, image = pair()
    nystra.substitute(adopted, kernel)
    exact = host(image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, found = host(image), adopted(image)
    assert found.dtype == expected.dtype
    assert (found - exact).abs().max() < 2 * (expected - exact).abs().max() + 0.02
    gradients(adopted.bfloat16(), image.bfloat16())
    expected, found = host.bfloat16()(image.bfloat16()), adopted(image.bfloat16())
    assert found.dtype == torch.bfloat16
    assert (found - exact).abs().max() < 2 * (expected - exact).abs().max() + 0.02


def test_state_dicts_are_exchanged_with_the_network():
    host, adopted, image = pair()
    with torch.no_grad():
        for parameter in host.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    adopted.load_state_dict(host.state_dict())
    torch.testing.assert_close(adopted(image), host(image), rtol=1e-4, atol=1e-5)


def test_threads_use_an_adopted_network_at_once():
    host, adopted, image = pair()
    images = [image, image[:, :, :, :8], image[:1], image.flip(2)]
    expected, wrong = [host(each) for each in images], []

    def work(number):
        for _ in range(5):
            with torch.no_grad():
                result = adopted(images[number])
            if not torch.allclose(result, expected[number], atol=1e-4):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_compiled_networks_are_right():
    host, adopted, image = pair()
    compiled = torch.compile(adopted, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(image), host(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strict", [True, False])
def test_exported_networks_are_the_hosts_own(strict):
    host, adopted, image = pair()
    program = torch.export.export(adopted, (image,), strict=strict)
    assert not any("nystra" in str(node.target) for node in program.graph.nodes)
    assert torch.equal(program.module()(image), host(image))
    nystra.substitute(adopted, nystra.ContentPooling())
    with pytest.raises(RuntimeError, match="must attend exactly to be exported or traced"):
        torch.export.export(adopted, (image,), strict=strict)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace", "ignore::torch.jit.TracerWarning")
def test_traced_networks_are_the_hosts_own():
    host, adopted, image = pair()
    traced = torch.jit.trace(adopted, image)
    torch.testing.assert_close(traced(image), host(image))
    nystra.substitute(adopted, nystra.ContentPooling())
    with pytest.raises(RuntimeError, match="must attend exactly to be exported or traced, got ContentPooling"):
        torch.jit.trace(adopted, image)


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputed_activations_have_the_same_gradients(reentrant):
    host, adopted, image = pair()
    image.requires_grad_()
    expected = torch.autograd.grad(host(image).square().sum(), [image, *host.parameters()])
    result = checkpoint(adopted, image, use_reentrant=reentrant)
    adopted.zero_grad()
    result.square().sum().backward()
    for found, gradient in zip([image.grad, *(p.grad for p in adopted.parameters())], expected, strict=True):
        torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-4)


def test_functions_that_torch_does_not_show_are_right_or_refused():
    """A backward of the host's own would be passed over without a word."""
    torch.manual_seed(0)
    net, x = Any().eval(), torch.randn(2, TOKENS, C)
    nystra.adopt(net, x)
    net.body = lambda m, q, k, v: Softmax.apply(q @ k.mT) @ v
    with torch.no_grad():
        expected = Any(net.body)
        expected.load_state_dict(net.state_dict())
        torch.testing.assert_close(net(x), expected(x))
    with pytest.raises(RuntimeError, match="exclude of"):
        net(x).sum().backward()


def test_writes_that_torch_does_not_show_are_refused():
    net, x = Any().eval(), torch.randn(2, TOKENS, C)
    nystra.adopt(net, x)

    def body(m, q, k, v):
        weights = (q @ k.mT).softmax(-1)
        m.kept = q.detach()
        return weights @ v, weights

    net.body = body
    with torch.no_grad():
        _, weights = net.eval()(x)
        scaled = weights.product.query
        scaled.add_(1)
        with pytest.raises(RuntimeError, match="written in place"):
            weights.sum()


class Steps(nn.Module):
    """Products and their uses in modules of their own."""

    def __init__(self):
        super().__init__()
        self.multiply, self.average, self.qkv = Multiply(), Multiply(), nn.Linear(C, 3 * C)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return self.average(self.multiply(q, k.mT).softmax(-1), v)


class Multiply(nn.Module):
    """A product as a module."""

    def forward(self, left, right):
        return left @ right


class Nested(nn.Module):
    """Attention with another attention inside, which is called twice."""

    def __init__(self):
        super().__init__()
        self.outer, self.inner = nn.Linear(C, 3 * C), Any(plain)

    def forward(self, x):
        q, k, v = self.outer(self.inner(x).transpose(1, 2).flatten(2)).chunk(3, -1)
        attended = (q @ k.mT / C**0.5).softmax(-1) @ v
        return self.inner(attended).transpose(1, 2).flatten(2)


def test_modules_of_single_products_are_found_from_around():
    torch.manual_seed(0)
    net, x = Steps().eval(), torch.randn(2, TOKENS, C)
    expected = net(x)
    report = nystra.adopt(net, x)
    assert [(row.name, row.window) for row in report.rows] == [("", (4, 4))]
    nystra.substitute(net, nystra.LandmarkPooling(1, 4, "none"))
    assert not torch.allclose(net(x), expected, atol=1e-3)


@pytest.mark.parametrize("exclude", ["inner", None])
def test_attention_inside_attention_is_its_own(exclude):
    torch.manual_seed(0)
    host, x = Nested().eval(), torch.randn(2, TOKENS, C)
    net = copy.deepcopy(host)
    expected = net(x)
    report = nystra.adopt(net, x, exclude=exclude)
    assert {row.name: row.taken for row in report.rows} == {"inner": exclude is None, "": True}
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)
    rough = nystra.LandmarkPooling(1, 4, "none")
    if exclude is None:
        nystra.substitute(net, rough, sites="inner")
        assert not torch.allclose(net.inner(x), host.inner(x), atol=1e-3)
        torch.testing.assert_close(net.inner(x), net.inner(x))
        host.inner = copy.deepcopy(net.inner)
        torch.testing.assert_close(net(x), host(x), rtol=1e-4, atol=1e-5)
    else:
        nystra.substitute(net, rough)
        calls = []
        net.inner.register_forward_hook(lambda module, args, result: calls.append((args[0], result)))
        assert not torch.allclose(net(x), expected, atol=1e-5)
        for given, result in calls:
            torch.testing.assert_close(result, host.inner(given), rtol=1e-4, atol=1e-5)


def test_a_network_in_training_is_surveyed_as_in_eval_mode_and_stays_as_it_is():
    net = nn.Sequential(nn.BatchNorm2d(C), windows(dropout=0.5)).train()
    net[0].eval()
    before = copy.deepcopy(net.state_dict())
    assert len(nystra.adopt(net, torch.randn(2, C, 8, 8)).taken) == 2
    assert [module.training for module in net.modules()] == [module is not net[0] for module in net.modules()]
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
