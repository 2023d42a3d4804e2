"""The GLMHA paper's tables of its own networks, as data."""

import functools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

import glmha
from glmha.attention.factories import AttentionFactory
from glmha.complexity import Complexity, count


@dataclass(frozen=True)
class Attention:
    """An attention over channels as recipes name it.

    Attributes:
        name: of a class of `glmha`.
        options: that the class is given.
    """

    name: str = "ChannelAttention"
    options: Mapping[str, float] = field(default_factory=dict)

    @property
    def factory(self) -> AttentionFactory:
        """What makes it of channels and heads."""
        return functools.partial(getattr(glmha, self.name), **self.options)

    @property
    def recipe(self) -> dict[str, Any]:
        """It as recipes write it."""
        return {"class_path": f"glmha.{self.name}", "init_args": dict(self.options)}


@dataclass(frozen=True)
class PublishedRow:
    """A network of a published table.

    Attributes:
        key: its name in options and folders; rows of several tables that are one network have one key.
        method: the row's name in the paper.
        attention: what it has in place of channel self-attention: one for all levels, or one for each.
        psnr: published, dB.
        gmacs: published "FLOPs (G)"; NaN where the table has no such column.
        parameters: published "Params (M)"; NaN where the table has no such column.
    """

    key: str
    method: str
    attention: Attention | tuple[Attention, ...]
    psnr: float
    gmacs: float = math.nan
    parameters: float = math.nan

    @property
    def factory(self) -> AttentionFactory | list[AttentionFactory]:
        """The attention as hosts take it."""
        if isinstance(self.attention, Attention):
            return self.attention.factory
        return [level.factory for level in self.attention]

    @property
    def recipe(self) -> str:
        """The attention as recipes write it, JSON: a value of the option `ATTENTION` of `lowrank fit`."""
        levels = self.attention
        return json.dumps(levels.recipe if isinstance(levels, Attention) else [level.recipe for level in levels])


@dataclass(frozen=True)
class Host:
    """A network that the paper trains for a task, with several attentions.

    Attributes:
        make: makes the network of an attention.
        shapes: of the inputs that its costs are counted with.
        training: recipe of `lowrank fit`.
        evaluation: recipe of `lowrank test`.
        options: further options of the evaluation.
        metric: name in `metrics.json` of the paper's PSNR.
        counted: the way of counting that the paper's FLOPs follow: attribute of `glmha.complexity.Complexity`.
        data: data set, as `lowrank data` lists it.
        hours: of one training, rough: its multiply-adds, forwards and backwards, at 5e12 a second.
    """

    make: Callable[..., nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    training: str
    evaluation: str
    metric: str
    counted: str
    data: str
    hours: int
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishedTable:
    """A table of the GLMHA paper: one host with several attentions. The first row is full attention.

    Attributes:
        number: of the table.
        title: what it is about.
        host: network, task and data.
        rows: of the table.
    """

    number: int
    title: str
    host: Host
    rows: tuple[PublishedRow, ...]

    @property
    def heading(self) -> str:
        """Number and title."""
        return f"Table {self.number}: {self.title}"

    @property
    def has_costs(self) -> bool:
        """Whether it has columns of FLOPs and parameters."""
        return not math.isnan(self.rows[0].gmacs)

    def cost(self, row: PublishedRow) -> Complexity:
        """Count a row's multiply-adds and parameters."""
        with torch.device("meta"):
            net = self.host.make(attention=row.factory)
        return count(net, *self.host.shapes)


ATTENTION = "model.net.init_args.attention"
"""The option of `lowrank fit` that takes a row's `recipe`."""
DENSE = Attention()
_HALF = Attention("GLMHA", {"reduction": 0.5, "alpha": 0.6})


def _comparison(
    dense: tuple[float, float, float],
    reformer: tuple[float, float],
    linformer: tuple[float, float],
    performer: tuple[float, float],
    low_rank: tuple[float, float, float],
) -> tuple[PublishedRow, ...]:
    """Rows of Tables 1 to 4, each of PSNR, FLOPs and, where they change, parameters."""
    (psnr, gmacs, parameters), (glmha_psnr, glmha_gmacs, glmha_parameters) = dense, low_rank
    others = {"Reformer": reformer, "Linformer": linformer, "Performer": performer}
    return (
        PublishedRow("csa", "CSA", DENSE, psnr, gmacs, parameters),
        *(
            PublishedRow(name.lower(), name, Attention(f"{name}ChannelAttention"), *figures, parameters)
            for name, figures in others.items()
        ),
        PublishedRow("glmha-50", "GLMHA", _HALF, glmha_psnr, glmha_gmacs, glmha_parameters),
    )


def _reduced(percent: int, psnr: float, gmacs: float, parameters: float) -> PublishedRow:
    attention = Attention("GLMHA", {"reduction": percent / 100, "alpha": 0.6})
    return PublishedRow(f"glmha-{percent}", f"GLMHA {percent} %", attention, psnr, gmacs, parameters)


def _scaled(alpha: float, psnr: float) -> PublishedRow:
    # At 0.6 it is the network of the other tables.
    key = "glmha-50" if alpha == 0.6 else f"glmha-50-alpha-{alpha}"
    return PublishedRow(key, f"α {alpha}", Attention("GLMHA", {"reduction": 0.5, "alpha": alpha}), psnr)


def _levels(name: str, low_rank: int, psnr: float, gmacs: float, parameters: float) -> PublishedRow:
    attention = (_HALF,) * low_rank + (DENSE,) * (4 - low_rank)
    return PublishedRow(f"glmha-{name.replace(' ', '-')}", name, attention, psnr, gmacs, parameters)


_RGB = ((1, 3, 256, 256),)
# A measurement shifted back and its mask, dispersed by two pixels a band.
_CASSI = ((1, 28, 256, 256), (1, 28, 256, 256 + 2 * 27))

MST_PLUS_PLUS = Host(
    glmha.MSTPlusPlus,
    _RGB,
    "glmha/mst_plus_plus_ntire.yaml",
    "eval/ntire2022.yaml",
    "psnr-cube",
    "published_macs",
    "NTIRE 2022 (ARAD_1K)",
    6,
)
MST_L = Host(
    functools.partial(glmha.MST, dim=28, stage=2, num_blocks=(4, 7, 5)),
    _CASSI,
    "glmha/mst_cassi.yaml",
    "eval/cassi.yaml",
    "psnr-bands",
    "published_macs",
    "CAVE, KAIST and the mask",
    7,
)
GOPRO = Host(
    glmha.Restormer,
    _RGB,
    "glmha/restormer_gopro.yaml",
    "eval/gopro.yaml",
    "psnr",
    "layer_macs",
    "GoPro",
    125,
    {"data.test_sets": "[GoPro]"},
)
RAIN13K = Host(
    glmha.Restormer,
    _RGB,
    "glmha/restormer_rain13k.yaml",
    "eval/rain13k.yaml",
    "psnr-y-rounded",
    "layer_macs",
    "Rain13K and its five test sets",
    125,
)
_DENSE_RAIN = PublishedRow("csa", "CSA", DENSE, 33.94, 140.99, 26.13)

TABLES = {
    table.number: table
    for table in (
        PublishedTable(
            1,
            "MST++, NTIRE 2022 spectral reconstruction",
            MST_PLUS_PLUS,
            _comparison((34.32, 23.05, 1.62), (33.71, 23.17), (33.79, 23.17), (33.57, 23.15), (34.21, 22.13, 1.60)),
        ),
        PublishedTable(
            2,
            "MST-L, snapshot compressive imaging",
            MST_L,
            _comparison((35.18, 28.15, 2.03), (34.11, 28.37), (34.67, 28.27), (34.21, 28.34), (35.06, 27.01, 2.00)),
        ),
        PublishedTable(
            3,
            "Restormer, motion deblurring (GoPro)",
            GOPRO,
            _comparison(
                (32.88, 140.99, 26.13), (32.65, 137.12), (32.67, 137.26), (30.75, 138.26), (32.77, 133.27, 25.76)
            ),
        ),
        PublishedTable(
            4,
            "Restormer, deraining (Rain13k)",
            RAIN13K,
            _comparison(
                (33.94, 140.99, 26.13), (33.46, 138.25), (33.69, 137.16), (29.55, 139.61), (33.86, 134.53, 25.78)
            ),
        ),
        PublishedTable(
            7,
            "Restormer, deraining, reduction of K and V",
            RAIN13K,
            (
                _DENSE_RAIN,
                _reduced(25, 33.88, 139.45, 26.05),
                _reduced(50, 33.86, 134.53, 25.78),
                _reduced(75, 33.10, 126.11, 24.87),
                _reduced(90, 29.45, 124.79, 23.31),
            ),
        ),
        PublishedTable(
            8,
            "Restormer, deraining, the scale α of the calibration at a reduction of 50 %",
            RAIN13K,
            tuple(
                _scaled(alpha, psnr)
                for alpha, psnr in ((0.3, 33.80), (0.4, 33.80), (0.5, 33.81), (0.6, 33.86), (0.7, 33.74))
            ),
        ),
        PublishedTable(
            9,
            "Restormer, deraining, GLMHA at some levels",
            RAIN13K,
            (
                PublishedRow("csa", "CSA", DENSE, 33.94, 140.99, 26.12),
                _levels("level 1", 1, 33.90, 139.98, 26.10),
                _levels("levels 1-2", 2, 33.89, 138.80, 26.05),
                _levels("levels 1-3", 3, 33.87, 137.40, 25.93),
                PublishedRow("glmha-50", "all levels", _HALF, 33.86, 134.53, 25.78),
            ),
        ),
    )
}
"""Tables of the GLMHA paper that are of its own networks, by number."""

COSTS = {number: table for number, table in TABLES.items() if table.has_costs}
"""Those of them that have columns of FLOPs and parameters."""

NOTES = """\
G: 1e9 multiply-adds for a 256×256 input and the change against CSA. M: 1e6 parameters.
paper:    as published.
layers:   convolutions and linear maps of the published module structure. Restormer's 140.99 is this count.
products: the layers and the products inside the attention, Q Kᵀ and A V (torch's FlopCounterMode, halved).
here:     every product that runs in this package: W_out A V as (W_out A) V, cosines by the Gram route.
MST++'s published 23.05 is its products + 0.10 of LayerNorm + 0.76 for transposed convolutions counted twice.
The paper's own savings are smaller than its Eq. (8) gives for full replacement; the counts here follow Eq. (8).
How Reformer, Linformer and Performer were put on channels the paper does not say: their counts are this package's."""
