"""Options that travel with weights."""

import pytest

import glmha


def test_weights_of_another_alpha_are_refused():
    weights = glmha.GLMHA(8, 2, alpha=0.3).state_dict()
    with pytest.raises(ValueError, match="attention must be the checkpoint's"):
        glmha.GLMHA(8, 2, alpha=0.6).load_state_dict(weights)
