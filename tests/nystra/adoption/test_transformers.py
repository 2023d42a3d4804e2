"""Adoption of networks of another library that is installed anyway."""

import copy
import io

import pytest
import torch
from transformers import Swin2SRConfig, Swin2SRModel, SwinConfig, SwinModel, ViTConfig, ViTModel

import nystra


def swin(attention):
    config = SwinConfig(
        image_size=64,
        patch_size=2,
        embed_dim=24,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=8,
        attn_implementation=attention,
    )
    return SwinModel(config), torch.rand(2, 3, 64, 64)


def swin2sr(_):
    config = Swin2SRConfig(image_size=32, embed_dim=24, depths=[2, 2], num_heads=[2, 2], window_size=8)
    return Swin2SRModel(config), torch.rand(1, 3, 32, 48)


def vit(attention):
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=64,
        patch_size=8,
        attn_implementation=attention,
    )
    return ViTModel(config), torch.rand(2, 3, 64, 64)


@pytest.fixture(
    params=[(swin, "eager"), (swin, "sdpa"), (swin2sr, "eager"), (vit, "eager"), (vit, "sdpa")],
    ids=lambda each: f"{each[0].__name__}-{each[1]}",
)
def net_and_images(request):
    make, attention = request.param
    net, images = make(attention)
    for name, parameter in net.named_parameters():
        if "bias_table" in name or "logit_scale" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return net.eval(), images


def run(net, images):
    with torch.no_grad():
        return net(images).last_hidden_state


def test_adopted_attention_is_that_of_the_network(net_and_images):
    net, images = net_and_images
    expected, keys = run(net, images), list(net.state_dict())
    report = nystra.adopt(net, images)
    assert report.taken
    assert not report.left_alone
    torch.testing.assert_close(run(net, images), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert list(net.state_dict()) == keys
    assert not any(site.notes for site in nystra.find_sites(net).values())
    nystra.release(net)
    assert torch.equal(run(net, images), expected)


def test_copies_and_files_of_adopted_networks_stay_adopted(net_and_images):
    net, images = net_and_images
    nystra.adopt(net, images)
    nystra.substitute(net, nystra.Performer(8))
    expected = run(net, images)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    for other in (copy.deepcopy(net), torch.load(file, weights_only=False)):
        assert list(nystra.find_sites(other)) == list(nystra.find_sites(net))
        assert torch.equal(run(other, images), expected)


@pytest.mark.parametrize("make", [swin, swin2sr, vit])
def test_summaries_of_single_tokens_are_exact_attention_in_shifted_windows_with_bias_or_beside_a_class_token(make):
    net, images = make("eager")
    for name, parameter in net.named_parameters():
        if "bias_table" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    net.eval()
    expected = run(net, images)
    report = nystra.adopt(net, images)
    assert {(row.window, row.extra) for row in report.rows} == {((8, 8), (1, 0) if make is vit else (0, 0))}
    nystra.substitute(net, nystra.LandmarkPooling(16, 64, "none"))
    torch.testing.assert_close(run(net, images), expected, rtol=1e-4, atol=1e-4)
