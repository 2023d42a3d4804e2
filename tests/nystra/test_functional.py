"""The tensor maths of window attention, held to inverses, sums and exact kernels in float64."""

import pytest
import torch
from torch.testing import assert_close

from nystra.functional import (
    add,
    iterative_pseudo_inverse,
    orthogonal_directions,
    pool,
    random_features,
    ridge_solve,
    transposed_over_norms,
    weighted_cells,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_no_bias_is_added_as_nothing():
    logits = normal(2, 3, 4, 4)
    assert add(logits, None) is logits
    assert torch.equal(add(logits, logits), 2 * logits)


def test_pools_are_means_of_neighbours():
    tokens = normal(2, 3, 6, 5)
    assert_close(pool(tokens, 2)[:, :, 1], tokens[:, :, 3:].mean(2))


def test_the_iteration_ends_in_the_inverse():
    matrix = normal(2, 3, 4, 4).softmax(-1) + torch.eye(4)
    start = transposed_over_norms(matrix, whole_batch=False)
    assert_close(iterative_pseudo_inverse(matrix, 20, start=start), matrix.inverse(), rtol=1e-10, atol=1e-10)
    # Norms of the whole batch couple its matrices.
    assert not torch.allclose(transposed_over_norms(matrix, whole_batch=True), start)
    assert_close(transposed_over_norms(matrix[:1, :1], whole_batch=True), start[:1, :1])


def test_a_small_ridge_gives_the_solution_of_least_norm():
    core, target = normal(3, 4, 6), normal(3, 4, 2, seed=1)
    assert_close(ridge_solve(core, target, 1e-12), core.pinverse() @ target, rtol=1e-6, atol=1e-8)
    assert ridge_solve(core, target, 1.0).norm() < ridge_solve(core, target, 1e-3).norm()


def test_cells_are_sums_of_their_tokens():
    weights, tokens = normal(2, 1, 3, 4, 5), normal(2, 1, 4, 5, 6)
    assert_close(weighted_cells(weights, tokens), torch.einsum("whmst,whstd->whmsd", weights, tokens))


@pytest.mark.parametrize("count", [3, 8])
def test_directions_are_orthogonal_in_blocks(count):
    directions = orthogonal_directions(count, 4, torch.Generator().manual_seed(0))
    assert directions.shape == (count, 4)
    gram = directions[:4] @ directions[:4].T
    assert_close(gram, gram.diagonal().diag(), rtol=0, atol=1e-5)


def test_directions_are_as_frequent_as_their_opposites():
    directions = orthogonal_directions(4096, 4, torch.Generator().manual_seed(0))
    # The mean of 4096 independent ones is 1/64 an entry; without correct signs it is 0.17 and more.
    assert directions.mean(0).abs().max() < 0.05


@pytest.mark.parametrize("orthogonal", [True, False])
def test_features_estimate_the_exponential_kernel(orthogonal):
    query, key = 0.3 * normal(1, 1, 5, 4), 0.3 * normal(1, 1, 6, 4, seed=1)
    directions = normal(16384, 4, seed=2)
    if orthogonal:
        directions = orthogonal_directions(8192, 4, torch.Generator().manual_seed(2)).to(directions)
    weights = random_features(query, directions, keys=False) @ random_features(key, directions, keys=True).mT
    exact = (query @ key.mT).softmax(-1)
    assert_close(weights / weights.sum(-1, keepdim=True), exact, rtol=0, atol=0.02)
