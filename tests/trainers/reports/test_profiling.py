"""Medians and peaks of memory are measured of every call."""

import pytest
import torch

import glmha
from trainers.reports.profiling import inference, interleaved_medians, peak_memory


@pytest.mark.slow
def test_memory_of_a_larger_input_is_larger():
    net = glmha.load_pretrained(glmha.Restormer(dim=8, num_blocks=(1, 1, 1, 1), num_refinement_blocks=1).state_dict())

    small, large = (peak_memory(inference, net, torch.rand(1, 3, size, size)) for size in (16, 512))
    assert large > small + 2**23


def test_medians_are_taken_over_every_call():
    calls = []
    medians = interleaved_medians({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b"] * 3
    assert set(medians) == {"a", "b"}
