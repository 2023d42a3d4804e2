"""Where a query looks (PnP-Nystra, Fig. 4): weights, exact and of kernels, and what differs, over the picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from datamodules.files.images import to_array
from trainers.figures.sheets.crops import wrapped
from trainers.figures.style import Drawing, bare, new_figure, styled

_SIDE = 1.55
# The picture shines through the weights by so much.
_OPACITY = 0.75


def draw_attention(
    window: Tensor,
    token: tuple[int, int],
    exact: Tensor,
    others: Mapping[str, Tensor],
    *,
    heads: Sequence[int] | None = None,
    title: str = "",
) -> Drawing:
    """Draw the weights that a query gives to the tokens of its window, over the picture of the window.

    For each head there are exact attention, every kernel, and below each kernel its difference from exact attention.
    Weights of a head share one scale, from black for none to light yellow; differences are blue below and red above
    exact, up to the largest exact weight.

    Args:
        window: picture of the window, (3, H, W) in [0, 1], whatever pixels a token has.
        token: row and column of the query in the window.
        exact: weights of exact attention, (heads, h, w).
        others: kernel → its weights, (heads, h, w).
        heads: numbers of those that are drawn, from 1; None: all.
        title: of the figure.

    Returns:
        The figure; in its rows, for each head and kernel, the sum of |difference|: 0 for the same weights, 2 for no
        weight in common.
    """
    chosen = range(1, len(exact) + 1) if heads is None else heads
    rows: list[dict[str, Any]] = []
    with styled():
        figure = new_figure((2 * _SIDE + 0.35) * len(chosen) + 0.3, _SIDE * (2 + len(others)) + 0.4)
        axes = figure.subplots(2 * len(chosen), 2 + len(others), squeeze=False)
        for panel in axes.flat:
            bare(panel)
        for place, number in enumerate(chosen):
            head = number - 1
            above, below = axes[2 * place], axes[2 * place + 1]
            most = max(float(exact[head].max()), 1e-12)
            above[0].imshow(to_array(window))
            above[0].set_title(f"window, head {number}", fontsize=7)
            _mark(above[0], token, window, exact)
            for column, (name, weights) in enumerate({"exact": exact, **others}.items(), 1):
                shown = _over(above[column], window, weights[head], "inferno", 0.0, most)
                above[column].set_title(wrapped(name), fontsize=7)
                _mark(above[column], token, window, exact)
                if name == "exact":
                    continue
                difference = weights[head] - exact[head]
                apart = float(difference.abs().sum())
                changed = _over(below[column], window, difference, "RdBu_r", -most, most)
                below[column].set_xlabel(f"Σ|difference| {apart:.2f}", fontsize=7, labelpad=2)
                _mark(below[column], token, window, exact)
                rows.append({"head": number, "kernel": name, "sum of |difference|": apart})
            figure.colorbar(shown, ax=list(above), label="weight", pad=0.01, aspect=12).ax.tick_params(labelsize=6)
            if others:
                bar = figure.colorbar(changed, ax=list(below), label="difference", pad=0.01, aspect=12)
                bar.ax.tick_params(labelsize=6)
        if title:
            figure.suptitle(title, fontsize=8)
    return Drawing(figure, rows)


def _over(axes: Axes, window: Tensor, weights: Tensor, colours: str, least: float, most: float) -> Any:
    """Draw weights over a grey picture, each as large as its token."""
    grey = to_array(window.mean(0, keepdim=True))
    axes.imshow(np.broadcast_to(grey, (*grey.shape[:2], 3)))
    extent = (-0.5, grey.shape[1] - 0.5, grey.shape[0] - 0.5, -0.5)
    return axes.imshow(
        weights.numpy(), cmap=colours, vmin=least, vmax=most, alpha=_OPACITY, extent=extent, interpolation="nearest"
    )


def _mark(axes: Axes, token: Sequence[int], window: Tensor, exact: Tensor) -> None:
    height, width = (side / count for side, count in zip(window.shape[-2:], exact.shape[-2:], strict=True))
    place = ((token[1] + 0.5) * width - 0.5, (token[0] + 0.5) * height - 0.5)
    axes.plot(*place, "+", color="#00d0ff", markersize=8, markeredgewidth=1.5)
