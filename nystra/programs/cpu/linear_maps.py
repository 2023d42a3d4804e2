"""Tokens through layers natively: norm, linear map, activation, linear map, residual. Only the result is written."""

import ctypes
import functools
import platform

import torch
import torch.nn.functional as F
from torch import Tensor

from nystra.programs.cpu.library import Library, load, usable
from nystra.programs.operators import Operator

# Activations that the program has, in its order (`source/activations.h`).
ACTIVATIONS = ("none", "relu", "gelu")
# Of fewer rows, packing the weights would take a large part of the time.
FEW_ROWS = 64
# Whether this processor multiplies bfloat16: torch does it then, several times as fast as in float32. Known at the
# import, as torch.compile cannot trace the question.
MULTIPLIES_HALVES = (
    platform.machine() in ("aarch64", "arm64")
    or torch.cpu._is_avx512_bf16_supported()
    or torch.cpu._is_amx_tile_supported()
)
# Floats of a vector of the processors on which single maps were measured to be faster than torch's.
MEASURED_LANES = 8


class Arguments(ctypes.Structure):
    """Arguments of the program, see `source/linear_maps.cpp`."""

    _fields_ = (
        ("features", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("norm_weight", ctypes.c_void_p),
        ("norm_bias", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
        ("second_weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("second_bias", ctypes.c_void_p),
        ("residual", ctypes.c_void_p),
        ("residual_stride", ctypes.c_int64),
        ("output", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("hidden", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
        ("epsilon", ctypes.c_float),
        ("activation", ctypes.c_int32),
        ("half", ctypes.c_int32),
    )


@functools.partial(Operator, "nystra::linear_maps")
def linear_maps(
    features: Tensor,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    epsilon: float,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    second_weight: Tensor | None,
    second_bias: Tensor | None,
    residual: Tensor | None,
) -> Tensor:
    """Map tokens: second(activation(first(norm(features)))) + residual.

    All tensors are of one dtype, float32 or bfloat16; everything between is float32.

    Args:
        features: (..., C).
        norm_weight: of a layer norm over the channels, (C,); None: ones.
        norm_bias: (C,); None: none.
        epsilon: added to the variance; negative: there is no norm.
        weight: of the first map, (hidden, C).
        bias: (hidden,); None: none.
        activation: of ACTIVATIONS, after the first map.
        second_weight: (outputs, hidden); None: there is no second map, and the outputs are `hidden`.
        second_bias: (outputs,); None: none.
        residual: what is added, (..., outputs); None: nothing.

    Returns:
        Shape (..., outputs), contiguous.
    """
    library = load()
    assert library is not None, "the caller asks `usable` first"
    outputs = len(weight if second_weight is None else second_weight)
    output = features.new_empty(*features.shape[:-1], outputs)
    hidden, channels = weight.shape
    fits = {
        "features": features.shape[-1] == channels > 0,
        "second_weight": hidden > 0 and (second_weight is None or second_weight.shape[1] == hidden),
        "bias": bias is None or bias.shape == (hidden,),
        "second_bias": second_bias is None or second_bias.shape == (outputs,),
        "norm_weight": norm_weight is None or norm_weight.shape == (channels,),
        "norm_bias": norm_bias is None or norm_bias.shape == (channels,),
        "residual": residual is None or residual.shape == output.shape,
    }
    if not all(fits.values()):
        wrong = next(name for name, fit in fits.items() if not fit)
        raise ValueError(f"{wrong} does not fit weight {tuple(weight.shape)} and features {tuple(features.shape)}")
    if not output.numel():
        return output
    rows = dense_rows(features)
    added = None if residual is None else dense_rows(residual)
    parts = [
        None if part is None else part.contiguous()
        for part in (norm_weight, norm_bias, weight, second_weight, bias, second_bias)
    ]
    arguments = Arguments(
        rows.data_ptr(),
        rows.stride(0),
        *(None if part is None else part.data_ptr() for part in parts),
        None if added is None else added.data_ptr(),
        0 if added is None else added.stride(0),
        output.data_ptr(),
        len(rows),
        rows.shape[1],
        len(weight),
        outputs,
        epsilon,
        ACTIVATIONS.index(activation),
        features.dtype == torch.bfloat16,
    )
    library.run("linear_maps", arguments)
    return output


@linear_maps.register_fake
def _(
    features: Tensor,
    _1: object,
    _2: object,
    _3: object,
    weight: Tensor,
    _4: object,
    _5: object,
    second: Tensor | None,
    *_: object,
) -> Tensor:
    outputs = (weight if second is None else second).shape[0]
    return features.new_empty(*features.shape[:-1], outputs)


def dense_rows(tokens: Tensor) -> Tensor:
    """Tokens (..., C) as rows (tokens, C) whose channels lie side by side: a view where there is one, or a copy."""
    rows = tokens.flatten(0, -2) if tokens.dim() > 1 else tokens[None]
    return rows if rows.stride(1) == 1 or rows.shape[1] == 1 else rows.contiguous()


def usable_rows(features: Tensor, *parameters: Tensor | None) -> Library | None:
    """Give the programs if they can take tokens (..., C) through layers of parameters, and it pays."""
    rows = features.numel() // max(features.shape[-1], 1)
    if rows < FEW_ROWS or torch.is_autocast_enabled("cpu"):
        return None
    if features.dtype == torch.bfloat16 and MULTIPLIES_HALVES:
        return None
    return usable(features, *(part for part in parameters if part is not None))


def linear(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Map tokens (..., C) by a weight (outputs, C) and a bias (outputs,) as `torch.nn.functional.linear` does."""
    library = usable_rows(features, weight, bias)
    if library is None or library.lanes != MEASURED_LANES:
        return F.linear(features, weight, bias)
    return linear_maps(features, None, None, -1.0, weight, bias, "none", None, None, None)
