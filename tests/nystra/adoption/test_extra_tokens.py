"""Class tokens, registers, tokens of time and text beside the patches of a map."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nystra
from nystra.analysis.bounds import site_bounds
from nystra.analysis.kernel_error import kernel_error
from nystra.analysis.planning import CANDIDATES
from nystra.sites.observation import observed
from tests.nystra.adoption import map_hosts as hosts
from tests.nystra.adoption.test_families import assert_same, run

C = 8


def vit(before=1, after=0):
    return hosts.PatchTokens([hosts.MultiHead(C, 2), hosts.Baddbmm(C, 2)], C, before, after)


def diffusion_transformer(before=1, after=0):
    return hosts.PatchTokens([hosts.Modulated(hosts.Baddbmm(C, 2), C) for _ in range(2)], C, before, after)


# Name → network, numbers of tokens before and behind the map's, and the form of the bias.
NETWORKS = {
    "class token": (vit, (1, 0), "none"),
    "registers, both ends": (lambda: vit(5, 2), (5, 2), "none"),
    "diffusion, time before": (diffusion_transformer, (1, 0), "none"),
    "diffusion, time and text": (lambda: diffusion_transformer(1, 12), (1, 12), "none"),
    "joint attention, text behind": (lambda: hosts.Tokens(hosts.JointAttention(C, 2, 7)), (0, 7), "none"),
}
SIDES = (12, 16)


def made(name):
    torch.manual_seed(0)
    make, extra, bias = NETWORKS[name]
    net = make().eval()
    images = [2 * torch.randn(batch, C, *sides) for batch, sides in ((1, SIDES), (3, SIDES), (2, (20, 12)))]
    window = SIDES if isinstance(net, hosts.Tokens) else (SIDES[0] // 2, SIDES[1] // 2)
    return net, images, window, extra, bias


def exact_in(window):
    return nystra.LandmarkPooling(1, window[0] * window[1], "none")


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_are_recognised_beside_other_tokens_at_any_size(name):
    net, images, window, extra, bias = made(name)
    expected = [run(net, image) for image in images]
    report = nystra.adopt(net, images[0])
    assert {(row.window, row.extra, row.bias) for row in report.rows} == {(window, extra, bias)}
    assert f"{window[0]}×{window[1]} + {sum(extra)}" in str(report)
    for image, result in zip(images, expected, strict=True):
        assert_same(run(net, image), result)
        sides = window if image.shape[2:] == SIDES else tuple(side * window[0] // SIDES[0] for side in (20, 12))
        nystra.substitute(net, exact_in(sides))
        assert_same(run(net, image), result, 5e-5)
        if image.shape[2:] != SIDES:
            # The sides of this map were known: as one row it would have other cells.
            sites = nystra.find_sites(net).values()
            assert {kept.window for site in sites for each in site._recoveries.values() for kept in each._kept} == {
                sides
            }
        nystra.substitute(net, nystra.Softmax())
    assert not any(site.notes for site in nystra.find_sites(net).values())


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_the_networks_own(name):
    net, images, window, *_ = made(name)
    net = net.double()
    image = images[0].double()
    names, parameters = zip(*net.named_parameters(), strict=True)
    expected = torch.autograd.grad(net(image).square().sum(), parameters, allow_unused=True)
    nystra.adopt(net, image)
    for kernel in (nystra.Softmax(), exact_in(window)):
        nystra.substitute(net, kernel)
        found = torch.autograd.grad(net(image).square().sum(), parameters, allow_unused=True)
        for label, one, other in zip(names, found, expected, strict=True):
            torch.testing.assert_close(one, other, msg=label)


def beit(side=6):
    torch.manual_seed(0)
    return hosts.PatchTokens([hosts.PairsBesideTokens(C, 2, side)], C, 1, 0).eval(), torch.randn(2, C, 12, 12)


def test_a_bias_of_offsets_is_found_beside_a_class_tokens():
    net, image = beit()
    expected = run(net, image)
    (row,) = nystra.adopt(net, image).rows
    assert (row.window, row.extra, row.bias) == ((6, 6), (1, 0), "table")
    assert_same(run(net, image), expected)
    for kernel in (exact_in((6, 6)), nystra.ContentPooling(4, 4, 4)):
        nystra.substitute(net, kernel)
        assert_same(run(net, image), expected, 5e-5)
    parameters = [parameter for parameter in net.parameters() if parameter.numel()]
    found = torch.autograd.grad(net(image).square().sum(), parameters)
    nystra.release(net)
    expected = torch.autograd.grad(net(image).square().sum(), parameters)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kernel", CANDIDATES, ids=str)
def test_every_candidate_of_plans_attends_beside_a_class_token(kernel):
    net, images, *_ = made("class token")
    expected = run(net, images[0])
    nystra.adopt(net, images[0])
    nystra.substitute(net, kernel)
    rough = run(net, images[0])
    assert not any(site.notes for site in nystra.find_sites(net).values())
    assert 0 < (rough - expected).norm() / expected.norm() < 0.5


def test_windows_are_told_beside_other_tokens():
    torch.manual_seed(0)
    net, tokens = hosts.Baddbmm(C, 2).eval(), torch.randn(2, 3 + 24, C)
    assert nystra.adopt(net, tokens).rows[0].window == (1, 27)
    (row,) = nystra.adopt(net, tokens, windows={"": (4, 6)}).rows
    assert (row.window, row.extra) == ((4, 6), (3, 0))
    with pytest.raises(ValueError, match="attentions of 27 tokens"):
        nystra.adopt(net, tokens, windows={"": (4, 5)})


def test_a_map_whose_sides_nothing_tells_is_attended_exactly_and_noted():
    torch.manual_seed(0)
    net, tokens = hosts.Baddbmm(C, 2).eval(), torch.randn(2, 3 + 24, C)
    nystra.adopt(net, tokens, windows={"": (4, 6)})
    nystra.substitute(net, nystra.LandmarkPooling(1, 4, "none"))
    other = torch.randn(2, 3 + 20, C)
    with pytest.warns(UserWarning, match="sides of a map of 20 tokens beside others"):
        result = run(net, other)
    nystra.release(net)
    assert_same(result, run(net, other))


class PooledTokens(nn.Module):
    """Attention of pooled maps, all in one module: no module has maps of the tokens' sides."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.token = inner, nn.Parameter(torch.randn(1, 1, C))

    def forward(self, image):
        tokens = F.avg_pool2d(image, 2).flatten(2).transpose(1, 2)
        return self.inner(torch.cat([self.token.expand(len(image), -1, -1), tokens], -2))


def test_maps_of_functions_are_known_on_the_sample_and_attended_exactly_at_other_sizes():
    torch.manual_seed(0)
    net = PooledTokens(hosts.Baddbmm(C, 2)).eval()
    images = [torch.randn(1, C, *sides) for sides in ((8, 14), (12, 8), (14, 8))]
    expected = [run(net, image) for image in images]
    (row,) = nystra.adopt(net, images[0]).rows
    assert (row.window, row.extra) == ((4, 7), (1, 0))
    nystra.substitute(net, nystra.LandmarkPooling(1, 4, "none"))
    assert not torch.allclose(run(net, images[0]), expected[0], atol=1e-4)
    with pytest.warns(UserWarning, match="sides of a map of 24 tokens"):
        assert_same(run(net, images[1]), expected[1])


def test_channels_that_look_like_rows_do_not_hide_a_map():
    """A map of 8×7 and 8 other tokens are as many as 4 channels of 16 rows."""
    torch.manual_seed(0)
    net = hosts.PatchTokens([hosts.Baddbmm(4, 1)], 4, 1, 7).eval()
    images = [torch.randn(1, 4, *sides) for sides in ((12, 16), (16, 14))]
    expected = [run(net, image) for image in images]
    (row,) = nystra.adopt(net, images[0]).rows
    assert (row.window, row.extra) == ((6, 8), (1, 7))
    for image, result, window in zip(images, expected, ((6, 8), (8, 7)), strict=True):
        nystra.substitute(net, exact_in(window))
        assert_same(run(net, image), result, 5e-5)


def test_plans_and_copies_take_maps_with_other_tokens():
    net, images, window, *_ = made("class token")
    nystra.adopt(net, images[0])
    sites = nystra.find_sites(net)
    assert {site.window_size for site in sites.values()} == {window}
    planned = nystra.plan(
        net, images[0], budget_db=5, candidates=[nystra.LandmarkPooling(4, 8, "none")], repeats=1, others=[images[2]]
    )
    assert set(planned.kernels) == set(sites)
    assert nystra.substitute(net, nystra.ContentPooling()).sites[0].tokens == 48
    expected = run(net, images[2])
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    for other in (copy.deepcopy(net), torch.load(file, weights_only=False)):
        run(other, images[0])
        assert torch.equal(run(other, images[2]), expected)


def test_release_leaves_no_hooks():
    net, images, *_ = made("class token")
    nystra.adopt(net, images[0])
    nystra.adopt(net, images[0])
    assert len(net.embedding._forward_hooks) == 1
    nystra.release(net)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_compiled_networks_are_right():
    net, images, *_ = made("class token")
    expected = [run(net, image) for image in images]
    nystra.adopt(net, images[0])
    compiled = torch.compile(net, backend="eager")
    for image, result in zip(images[::2], expected[::2], strict=True):
        assert_same(run(compiled, image), result)


def test_the_channels_of_joined_maps_are_no_tokens():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.down = hosts.Tokens(hosts.Baddbmm(96, 2)), nn.Conv2d(64, 32, 1)

        def forward(self, image):
            return self.attention(torch.cat([image, self.down(image)], 1))

    torch.manual_seed(0)
    (row,) = nystra.adopt(Joined().eval(), torch.randn(1, 64, 8, 13)).rows
    assert (row.window, row.extra) == ((8, 13), (0, 0))


def test_errors_and_bounds_are_told_beside_other_tokens():
    net, images, *_ = made("class token")
    nystra.adopt(net, images[0])
    sites, kernel = nystra.find_sites(net), nystra.LandmarkPooling(4, 8, "none")
    errors = {}

    def compare(name, *call):
        every = kernel_error(nystra.LandmarkPooling(1, 48, "none"), *call)
        whole = (kernel(*call) - nystra.Softmax()(*call)).norm() / nystra.Softmax()(*call).norm()
        errors[name] = every, kernel_error(kernel, *call), float(whole)

    with observed(sites, compare):
        run(net, images[1])
    assert set(errors) == set(sites)
    for every, rough, whole in errors.values():
        assert every < 1e-5 < rough
        assert rough == pytest.approx(whole, rel=1e-4)
    assert all(0 < bound.error <= bound.worst for bound in site_bounds(net, images[:1], landmarks=4).values())
