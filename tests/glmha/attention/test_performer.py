"""Performer between channels: its limit of many features, and its cached directions."""

import torch

import glmha
from glmha.functional import drawn_directions
from tests.glmha.randomised import exactly, features, randomise


def test_performer_tends_to_softmax_with_many_features():
    exact = randomise(glmha.ChannelAttention(8, 2).double())
    expected, _ = exact.attention(features())
    errors = []
    for count in (64, 65536):
        module = glmha.PerformerChannelAttention(8, 2, features=count).double()
        module.load_state_dict(exact.state_dict(), strict=True)
        attention, _ = module.attention(features())
        exactly(attention.sum(-1), torch.ones_like(attention.sum(-1)))
        errors.append((attention - expected).abs().max().item())
    assert errors[1] < 0.05
    assert errors[1] < errors[0] / 3


def test_directions_made_in_inference_mode_can_be_trained_with():
    module = glmha.PerformerChannelAttention(8, 2, features=5)
    x = features(1).float()
    drawn_directions.cache_clear()
    with torch.inference_mode():
        module(x)
    module(x.requires_grad_()).sum().backward()
    assert x.grad is not None
