"""State dicts of other tools: wrappers stripped, counters left out by name, what is not the network's left aside."""

import pytest
import torch

from glmha.shared.checkpoint_files import CheckpointError
from glmha.shared.state_dicts import unwrap

WEIGHTS = {"a.weight": torch.ones(2), "b.0.weight": torch.zeros(3), "b.0.net.0.bias": torch.zeros(1)}


def renamed(prefix: str = "", infix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + key.replace("b.0.", f"b.0.{infix}"): value for key, value in WEIGHTS.items()}


@pytest.mark.parametrize("prefix", ["", "module.", "net.", "_orig_mod.", "net._orig_mod.", "module.net.", "net.net."])
@pytest.mark.parametrize("infix", ["", "module.", "_orig_mod.", "_fsdp_wrapped_module._checkpoint_wrapped_module."])
def test_wrappers_are_stripped_wherever_they_are(prefix, infix):
    assert unwrap(renamed(prefix, infix), "it") == WEIGHTS


@pytest.mark.parametrize(
    "others",
    [
        {"a.total_ops": torch.zeros(1, dtype=torch.float64), "total_params": torch.zeros(1)},
        {"n_averaged": torch.tensor(3)},
        {"module.initted": torch.tensor(1.0), "step": torch.tensor(4)},
    ],
)
@pytest.mark.parametrize("prefix", ["", "module.", "net."])
def test_counters_of_other_tools_are_left_out_and_named(others, prefix, caplog):
    others = {prefix + key if prefix == "net." else key: value for key, value in others.items()}
    assert unwrap(renamed(prefix) | others, "mine.pth") == WEIGHTS
    assert f"mine.pth: left out {next(iter(others))}" in caplog.text


@pytest.mark.parametrize("beside", ["loss.kernel", "metrics.0.mean", "loss.net.weight", "teacher.a.weight"])
def test_of_a_task_the_network_is_taken(beside):
    assert unwrap({"state_dict": renamed("net.") | {beside: torch.ones(1)}}, "it") == WEIGHTS


def test_a_layer_that_is_named_like_a_counter_is_kept():
    layer = {"a.step": torch.zeros(4)}
    assert unwrap(WEIGHTS | layer, "it") == WEIGHTS | layer


def test_parameters_with_and_without_a_wrapper_are_refused():
    with pytest.raises(CheckpointError, match="it must hold every parameter once"):
        unwrap(WEIGHTS | renamed("module."), "it")
