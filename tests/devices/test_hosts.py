"""Networks compute on an accelerator what they compute on the processor."""

import copy
import functools
import itertools

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import nystra
from glmha.shared.image_network import image_rules
from tests.conformance import ATTENTIONS, relative, run
from tests.devices import accelerator_cases
from tests.test_conformance import HOSTS
from trainers.commands.bench.compilation import compiled_blocks

KERNELS = (
    nystra.Softmax(),
    nystra.LandmarkPooling(4, 4, "own"),
    nystra.LandmarkPooling(4, 4, "cross"),
    nystra.ContentPooling(landmarks=4, cells=4),
    nystra.Nystrom(4, 4),
    nystra.PublishedNystrom(4, 2),
    nystra.Nystromformer(4),
    nystra.Performer(16),
)
ATTENTION_NAMES = {getattr(each, "func", each).__name__: each for each in ATTENTIONS}
KERNEL_NAMES = {str(kernel): kernel for kernel in KERNELS}
# Float16 holds 11 bits, bfloat16 8; errors of a few layers add up.
HALVES = {torch.float16: 0.02, torch.bfloat16: 0.1}

VARIANTS = {
    **{
        f"{host} {name}": functools.partial(HOSTS[host].build, attention=attention)
        for host, (name, attention) in itertools.product(HOSTS, ATTENTION_NAMES.items())
        if HOSTS[host].takes_attention
    },
    **{host: HOSTS[host].build for host in HOSTS if not HOSTS[host].takes_attention},
}
PROCESSOR = ("SwinIR", "Restormer GLMHA")


def inputs_of(variant: str) -> list[torch.Tensor]:
    host = HOSTS[max((name for name in HOSTS if variant.startswith(name)), key=len)]
    return host.inputs(host.taken[0], 2)


def gradients(net: nn.Module, inputs: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    net(*inputs).square().mean().backward()
    return {name: each.grad.cpu() for name, each in net.named_parameters() if each.grad is not None}


@pytest.mark.parametrize(("device", "variant"), accelerator_cases(*VARIANTS, on_processor=PROCESSOR))
def test_outputs_and_gradients_are_those_of_the_processor(device, variant):
    net, inputs = VARIANTS[variant](), inputs_of(variant)
    there, inputs_there = copy.deepcopy(net).to(device), [each.to(device) for each in inputs]
    assert_close(run(there, inputs_there).cpu(), run(net, inputs), rtol=1e-3, atol=1e-4)
    expected = gradients(net, inputs)
    given = gradients(there, inputs_there)
    assert given.keys() == expected.keys()
    for name, gradient in given.items():
        assert_close(gradient, expected[name], rtol=1e-2, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(("device", "kernel"), accelerator_cases(*KERNEL_NAMES))
def test_kernels_are_those_of_the_processor(device, kernel):
    host = HOSTS["SwinIR"]
    net = host.build()
    nystra.substitute(net, KERNEL_NAMES[kernel])
    inputs = host.inputs((21, 16), 2)
    there = copy.deepcopy(net).to(device)
    assert_close(run(there, [each.to(device) for each in inputs]).cpu(), run(net, inputs), rtol=1e-3, atol=1e-4)
    expected, given = gradients(net, inputs), gradients(there, [each.to(device) for each in inputs])
    for name, gradient in given.items():
        assert_close(gradient, expected[name], rtol=1e-2, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("cast", [True, False], ids=["autocast", "weights"])
@pytest.mark.parametrize(("device", "variant"), accelerator_cases(*VARIANTS, on_processor=PROCESSOR))
def test_halves_are_near_float32(device, variant, cast, dtype):
    net, inputs = VARIANTS[variant]().to(device), [each.to(device) for each in inputs_of(variant)]
    exact = run(net, inputs)
    if cast:
        with torch.autocast(device, dtype):
            half = run(net, inputs)
    else:
        half = run(net.to(dtype), [each.to(dtype) for each in inputs])
    assert relative(half.float() - exact, exact) < HALVES[dtype]


@pytest.mark.parametrize(("device", "variant"), accelerator_cases(*VARIANTS))
def test_compiled_blocks_compute_the_same(device, variant):
    net, inputs = VARIANTS[variant]().to(device), [each.to(device) for each in inputs_of(variant)]
    torch.compiler.reset()
    assert_close(run(compiled_blocks(net), inputs), run(net, inputs), rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA graphs")
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_captured_graph_computes_the_same(variant):
    net, inputs = VARIANTS[variant]().cuda(), [each.cuda() for each in inputs_of(variant)]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream), torch.no_grad():
        for _ in range(3):
            net(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        captured = net(*inputs)
    others = [torch.rand_like(each) for each in inputs]
    for each, other in zip(inputs, others, strict=True):
        each.copy_(other)
    graph.replay()
    assert_close(captured, run(net, others), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("device", "variant"), accelerator_cases("SwinIR", "Restormer GLMHA"))
def test_sizes_are_taken_as_on_the_processor(device, variant):
    net = VARIANTS[variant]().to(device)
    multiple = image_rules(net).size_multiple
    assert run(net, [torch.rand(1, 3, multiple, 3 * multiple, device=device)]).shape[-1] == 3 * multiple
