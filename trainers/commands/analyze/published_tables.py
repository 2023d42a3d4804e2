"""The GLMHA paper's tables of costs, as data."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

import glmha
from glmha.attention.factories import AttentionFactory


@dataclass(frozen=True)
class PublishedRow:
    """A network of a published table.

    Attributes:
        method: the row's name there.
        attention: what it has in place of channel self-attention, one factory or one per level.
        gmacs: published "FLOPs (G)".
        parameters: published "Params (M)".
    """

    method: str
    attention: AttentionFactory | list[AttentionFactory]
    gmacs: float
    parameters: float


@dataclass(frozen=True)
class PublishedTable:
    """A table of the GLMHA paper: costs of one host with several attentions. The first row is full attention.

    Attributes:
        title: number and task.
        host: makes the network of an attention.
        shapes: of the inputs that it is counted with.
        rows: of the table.
    """

    title: str
    host: Callable[..., nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    rows: tuple[PublishedRow, ...]


def _comparison(
    dense: tuple[float, float], reformer: float, linformer: float, performer: float, low_rank: tuple[float, float]
) -> tuple[PublishedRow, ...]:
    return (
        PublishedRow("CSA", glmha.ChannelAttention, *dense),
        PublishedRow("Reformer", glmha.ReformerChannelAttention, reformer, dense[1]),
        PublishedRow("Linformer", glmha.LinformerChannelAttention, linformer, dense[1]),
        PublishedRow("Performer", glmha.PerformerChannelAttention, performer, dense[1]),
        PublishedRow("GLMHA", glmha.GLMHA, *low_rank),
    )


def _reduced(percent: int, gmacs: float, parameters: float) -> PublishedRow:
    return PublishedRow(
        f"GLMHA {percent} %", functools.partial(glmha.GLMHA, reduction=percent / 100), gmacs, parameters
    )


def _levels(name: str, low_rank: int, gmacs: float, parameters: float) -> PublishedRow:
    return PublishedRow(name, [glmha.GLMHA] * low_rank + [glmha.ChannelAttention] * (4 - low_rank), gmacs, parameters)


_RGB = ((1, 3, 256, 256),)
# A measurement shifted back and its mask, dispersed by two pixels a band.
_CASSI = ((1, 28, 256, 256), (1, 28, 256, 256 + 2 * 27))
_MST_L = functools.partial(glmha.MST, dim=28, stage=2, num_blocks=(4, 7, 5))

TABLES = {
    1: PublishedTable(
        "Table 1: MST++, NTIRE 2022 spectral reconstruction",
        glmha.MSTPlusPlus,
        _RGB,
        _comparison((23.05, 1.62), 23.17, 23.17, 23.15, (22.13, 1.60)),
    ),
    2: PublishedTable(
        "Table 2: MST-L, snapshot compressive imaging",
        _MST_L,
        _CASSI,
        _comparison((28.15, 2.03), 28.37, 28.27, 28.34, (27.01, 2.00)),
    ),
    3: PublishedTable(
        "Table 3: Restormer, motion deblurring (GoPro)",
        glmha.Restormer,
        _RGB,
        _comparison((140.99, 26.13), 137.12, 137.26, 138.26, (133.27, 25.76)),
    ),
    4: PublishedTable(
        "Table 4: Restormer, deraining (Rain13k)",
        glmha.Restormer,
        _RGB,
        _comparison((140.99, 26.13), 138.25, 137.16, 139.61, (134.53, 25.78)),
    ),
    7: PublishedTable(
        "Table 7: Restormer, deraining, reduction of K and V",
        glmha.Restormer,
        _RGB,
        (
            PublishedRow("CSA", glmha.ChannelAttention, 140.99, 26.13),
            _reduced(25, 139.45, 26.05),
            _reduced(50, 134.53, 25.78),
            _reduced(75, 126.11, 24.87),
            _reduced(90, 124.79, 23.31),
        ),
    ),
    9: PublishedTable(
        "Table 9: Restormer, deraining, GLMHA at some levels",
        glmha.Restormer,
        _RGB,
        (
            PublishedRow("CSA", glmha.ChannelAttention, 140.99, 26.12),
            _levels("level 1", 1, 139.98, 26.10),
            _levels("levels 1-2", 2, 138.80, 26.05),
            _levels("levels 1-3", 3, 137.40, 25.93),
            _levels("all levels", 4, 134.53, 25.78),
        ),
    ),
}
"""Tables of the GLMHA paper that have columns of FLOPs and parameters, by number."""

NOTES = """\
G: 1e9 multiply-adds for a 256×256 input and the change against CSA. M: 1e6 parameters.
paper:    as published.
layers:   convolutions and linear maps of the published module structure. Restormer's 140.99 is this count.
products: the layers and the products inside the attention, Q Kᵀ and A V (torch's FlopCounterMode, halved).
here:     every product that runs in this package: W_out A V as (W_out A) V, cosines by the Gram route.
MST++'s published 23.05 is its products + 0.10 of LayerNorm + 0.76 for transposed convolutions counted twice.
The paper's own savings are smaller than its Eq. (8) gives for full replacement; the counts here follow Eq. (8).
How Reformer, Linformer and Performer were put on channels the paper does not say: their counts are this package's."""
