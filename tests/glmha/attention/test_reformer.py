"""Reformer between channels: the keys that a query attends to."""

import torch

import glmha
from glmha import functional
from glmha.functional import random_directions
from tests.glmha.randomised import exactly, features, randomise


def test_reformer_sees_its_bucket_and_itself():
    exact = randomise(glmha.ChannelAttention(8, 2).double())
    module = glmha.ReformerChannelAttention(8, 2, buckets=2, rounds=1, seed=3).double()
    module.load_state_dict(exact.state_dict(), strict=True)
    attention, _ = module.attention(features())
    query, key, _ = module.convention.tokens(module, features(), None)
    directions = random_directions(42, 1, 3, torch.device("cpu")).double()
    left, right = ((t.transpose(1, 2) @ directions > 0).unflatten(1, (2, 4)) for t in (query, key))
    visible = (left == right.transpose(2, 3)) | torch.eye(4, dtype=torch.bool)
    cosines = functional.similarity(query, key, 2) * module.temperature
    exactly(attention, cosines.masked_fill(~visible, -torch.inf).softmax(-1))
    assert not visible.all()
