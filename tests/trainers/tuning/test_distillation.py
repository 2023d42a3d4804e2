"""Feature maps of student and teacher are compared where both are."""

import pytest
import torch

from trainers.tuning.distillation import relative_error


def test_maps_are_compared_where_both_are():
    small, large = torch.ones(1, 4, 4, 2), torch.zeros(1, 8, 8, 2)
    large[:, :4, :4] = 2
    assert relative_error(small, large).item() == pytest.approx(0.25)


def test_an_error_is_the_mean_of_its_images_however_they_are_shared_out():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.rand(2, 4, 6, 6, 3, generator=generator)
    teacher *= torch.tensor([1.0, 3.0, 0.2, 5.0])[:, None, None, None]
    halves = [relative_error(*pair) for pair in zip(student.split(2), teacher.split(2), strict=True)]
    torch.testing.assert_close(relative_error(student, teacher), torch.stack(halves).mean())
