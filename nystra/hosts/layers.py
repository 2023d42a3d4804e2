"""Layers that the hosts share: those that map every token by itself, natively in one program, and stochastic depth."""

from collections import OrderedDict
from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from nystra.programs.cpu.linear_maps import MEASURED_LANES, linear, linear_maps, usable_rows


class PointwiseConv(nn.Conv2d):
    """A 1×1 convolution as a product of matrices: on channels-last features it copies nothing."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C, H, W)."""
        return pointwise(input, self.weight, self.bias)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve (B, C_in, H, W) with a kernel (C, C_in, 1, 1)."""
    return linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


def mlp(dim: int, hidden: int, drop: float = 0.0) -> nn.Sequential:
    """Linear, GELU, dropout, linear, dropout; the maps have the keys `fc1` and `fc2`."""
    first, second = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
    return nn.Sequential(
        OrderedDict(fc1=first, act=nn.GELU(), drop1=nn.Dropout(drop), fc2=second, drop2=nn.Dropout(drop))
    )


def add_branch(x: Tensor, *layers: nn.Module, rate: float = 0.0, training: bool = False) -> Tensor:
    """Take tokens (B, ..., C) through layers and add the result to them, with stochastic depth of a rate."""
    if not (training and rate):
        result = natively(x, *layers, residual=x)
        if result is not None:
            return result
    return x + stochastic_depth(_in_turn(x, layers), rate, training=training)


def through(tokens: Tensor, *layers: nn.Module) -> Tensor:
    """Take tokens (..., C) through layers, natively where it can be."""
    result = natively(tokens, *layers)
    return _in_turn(tokens, layers) if result is None else result


def stochastic_depth(branch: Tensor, rate: float, *, training: bool) -> Tensor:
    """Leave a branch (B, ...) out of some images of a training batch and enlarge it in the others."""
    if not (training and rate):
        return branch
    share = 1 - rate
    return branch * branch.new_empty(len(branch), *[1] * (branch.ndim - 1)).bernoulli_(share).div_(share)


NAMES = {nn.ReLU: "relu", nn.GELU: "gelu"}


def natively(tokens: Tensor, *layers: nn.Module, residual: Tensor | None = None) -> Tensor | None:
    """Take tokens through layers by one native program, which writes nothing but the result.

    The layers are: perhaps a `LayerNorm`; a linear map (`Linear` or `PointwiseConv`); perhaps `ReLU` or `GELU`; perhaps
    another linear map; dropouts that do nothing. Sequences of them are taken apart.

    Args:
        tokens: (..., C).
        *layers: from first to last.
        residual: what is added to the result, (..., outputs).

    Returns:
        Shape (..., outputs), contiguous; None: plain torch is to do it, since there is no program, gradients or hooks
        are asked for, or the layers are others.
    """
    if usable_rows(tokens) is None:
        return None
    flat = list(_flattened(layers))
    norm = flat.pop(0) if flat and type(flat[0]) is nn.LayerNorm else None
    activation = flat.pop(1) if len(flat) > 1 and type(flat[1]) in NAMES else None
    maps = [layer for layer in flat if type(layer) in (nn.Linear, PointwiseConv)]
    if not 1 <= len(flat) <= 2 or len(maps) < len(flat):
        return None
    if _has_any_global_hook() or not all(_plain(part) for layer in layers for part in layer.modules()):
        return None
    if isinstance(activation, nn.GELU) and activation.approximate != "none":
        return None
    scale = shift = None
    if isinstance(norm, nn.LayerNorm):
        if norm.normalized_shape != tokens.shape[-1:]:
            return None
        scale, shift = norm.weight, norm.bias
    (weight, bias), (second, second_bias) = (
        _parameters(maps[0]),
        _parameters(maps[1]) if len(maps) > 1 else (None, None),
    )
    library = usable_rows(tokens, scale, shift, weight, bias, second, second_bias, residual)
    alone = norm is None and activation is None and second is None and residual is None
    if library is None or (alone and library.lanes != MEASURED_LANES):
        return None
    return linear_maps(
        tokens,
        scale,
        shift,
        norm.eps if isinstance(norm, nn.LayerNorm) else -1.0,
        weight,
        bias,
        "none" if activation is None else NAMES[type(activation)],
        second,
        second_bias,
        residual,
    )


def _parameters(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight (outputs, inputs) and bias of a linear map."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    assert bias is None or isinstance(bias, Tensor)
    return weight.flatten(1), bias


def _in_turn(tokens: Tensor, layers: tuple[nn.Module, ...]) -> Tensor:
    for layer in layers:
        tokens = layer(tokens)
    return tokens


def _flattened(layers: tuple[nn.Module, ...]) -> Iterator[nn.Module]:
    """Layers with sequences taken apart, without dropouts that do nothing."""
    for layer in layers:
        if type(layer) is nn.Sequential:
            yield from _flattened(tuple(layer))
        elif type(layer) is not nn.Dropout or (layer.training and layer.p):
            yield layer


def _plain(layer: nn.Module) -> bool:
    """Whether a call of a layer does nothing but its forward."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return "forward" not in vars(layer) and not any(hooks)
