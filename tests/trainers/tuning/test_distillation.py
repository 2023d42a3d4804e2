"""Feature maps of student and teacher are compared where both are."""

import pytest
import torch

from trainers.tuning.distillation import relative_error


def test_maps_are_compared_where_both_are():
    small, large = torch.ones(1, 4, 4, 2), torch.zeros(1, 8, 8, 2)
    large[:, :4, :4] = 2
    assert relative_error(small, large).item() == pytest.approx(0.25)
