"""Channel attention's products, by every route, and the choice between routes."""

import pytest
import torch
import torch.nn.functional as F

from glmha import functional
from tests.glmha.randomised import exactly, inputs


@pytest.mark.parametrize("route", ["absorbed", "sequential"])
@pytest.mark.parametrize("biased", [False, True])
def test_both_output_routes_are_the_same_product(monkeypatch, route, biased):
    monkeypatch.setattr(functional, "output_route", lambda *shape: route)
    attention, value, weight = inputs([(2, 2, 4, 3), (2, 30, 6), (8, 8)], torch.float64)
    bias = torch.arange(8.0, dtype=torch.float64) if biased else None
    for batch in (1, 2):
        mixed = torch.einsum("bhij,bnhj->bnhi", attention[:batch], value[:batch].unflatten(2, (2, 3))).flatten(2)
        exactly(functional.attend(attention[:batch], value[:batch], weight, bias), F.linear(mixed, weight, bias))


def test_the_cost_model_follows_the_shapes():
    assert functional.output_route(65536, 48, 48, 24, 1) == "absorbed"
    assert functional.output_route(4, 48, 48, 48, 1) == "sequential"
    assert functional.similarity_route(65536, 31, 31, 1, query_needed=False) == "gram"
    assert functional.similarity_route(65536, 31, 8, 1, query_needed=True) == "direct"
