"""Which parameters fine-tuning moves."""

from collections.abc import Iterable
from typing import Literal, get_args

from torch import nn

from nystra.sites.site import WindowAttention
from trainers.tuning.lora import add_lora, holders, projections

Trainable = Literal["all", "attention", "bias", "adapters"]


def disable_dropout(net: nn.Module) -> None:
    """Switch dropout and stochastic depth off."""
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "drop_path", None), float):
            module.drop_path = 0.0  # type: ignore[assignment]


def freeze(net: nn.Module, trainable: Trainable, adapter_rank: int) -> None:
    """Let gradients reach the parameters that are to be trained, and no others.

    Raises:
        ValueError: if `trainable` is unknown, leaves nothing to train, or `adapter_rank` is below 1.
    """
    if trainable not in get_args(Trainable):
        raise ValueError(f"trainable ({trainable}) must be one of {', '.join(get_args(Trainable))}")
    if trainable == "all":
        return
    net.requires_grad_(requires_grad=False)
    if trainable == "adapters":
        add_lora(projections(net), adapter_rank)
        return
    chosen = list(bias_parameters(net) if trainable == "bias" else attention_parameters(net))
    if not chosen:
        raise ValueError(
            f"trainable ({trainable}) must leave something to train, {type(net).__name__} has no {trainable}"
        )
    for parameter in chosen:
        parameter.requires_grad_(True)


def bias_parameters(net: nn.Module) -> Iterable[nn.Parameter]:
    """Find the parameters that the position biases of window attention are computed from."""
    for module in net.modules():
        # Some windows and kernels have no use for it.
        if not isinstance(module, WindowAttention) or module.bias_mode == "drop" or not module.kernel.sees_bias:
            continue
        if (bias := module.position_bias()) is not None:
            yield from (parameter for parameter in bias.parameters() if isinstance(parameter, nn.Parameter))


def attention_parameters(net: nn.Module) -> Iterable[nn.Parameter]:
    """Parameters of the attentions, their projections included."""
    for module in holders(net):
        yield from module.parameters()
