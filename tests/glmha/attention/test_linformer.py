"""Linformer between channels against its equation."""

import torch.nn.functional as F

import glmha
from tests.glmha.randomised import exactly, features, randomise


def test_linformer_projects_keys_and_values():
    module = randomise(glmha.LinformerChannelAttention(8, 2, reduction=0.5).double())
    query, key, value = (
        t.unflatten(2, (2, 4)).permute(0, 2, 3, 1) for t in module.convention.tokens(module, features(), None)
    )
    key = module.key_projection @ F.normalize(key, dim=-1)
    scores = F.normalize(query, dim=-1) @ key.transpose(2, 3) * module.temperature
    mixed = scores.softmax(-1) @ (module.value_projection @ value)
    exactly(module(features()), module.project_out(mixed.flatten(1, 2).unflatten(2, (7, 6))))
