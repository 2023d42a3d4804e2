"""Spectra of attention by block: cumulative energy, singular values, and the rank that holds a share of the energy."""

from collections.abc import Mapping

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from torch import Tensor

from glmha.spectrum import rank_for_energy
from trainers.figures.style import Drawing, colour_of, marker_of, new_figure, styled

SHARES = (0.9, 0.95, 0.99)
"""Shares of the energy whose rank is told."""
_LONGEST_LEGEND = 8
# Below the precision of the features there is nothing to see.
_LEAST = 1e-7


def draw_spectra(
    energies: Mapping[str, Tensor], singular_values: Mapping[str, Tensor] | None = None, *, title: str = ""
) -> Drawing:
    """Draw the cumulative energy of every block's spectrum (GLMHA, Fig. 1), and beside it the ranks by block.

    Args:
        energies: block → share of the energy in its first i + 1 singular values, (d,), in the network's order.
        singular_values: block → singular values as shares of the largest, (d,), drawn between the two (PnP-Nystra,
            Fig. 1); None: they are not.
        title: of the figure.

    Returns:
        The figure; in its rows every point of the curves.
    """
    with styled():
        figure = new_figure(3.1, 7.0 if singular_values is None else 9.5)
        panels = figure.subplots(1, 2 if singular_values is None else 3)
        _draw_curves(panels[0], energies)
        panels[0].set_ylabel("share of the energy")
        panels[0].set_ylim(top=1.01)
        if singular_values is not None:
            _draw_curves(panels[1], {name: values.clamp(min=_LEAST) for name, values in singular_values.items()})
            panels[1].set_yscale("log")
            panels[1].set_ylabel("singular value, share of the largest")
        if len(energies) <= _LONGEST_LEGEND:
            panels[0].legend(fontsize=6, loc="lower right")
        else:
            colours = ScalarMappable(Normalize(1, len(energies)), "viridis")
            figure.colorbar(colours, ax=panels[-2], label="block", pad=0.01)
        _draw_ranks(panels[-1], energies)
        if title:
            figure.suptitle(title, fontsize=9)
    rows = [
        {
            "block": name,
            "number": index + 1,
            "share": (index + 1) / len(energy),
            "energy": value,
            **({} if singular_values is None else {"singular value": float(singular_values[name][index])}),
        }
        for name, energy in energies.items()
        for index, value in enumerate(energy.tolist())
    ]
    return Drawing(figure, rows)


def _draw_curves(axes: Axes, curves: Mapping[str, Tensor]) -> None:
    colours = mpl.colormaps["viridis"]
    for index, (name, values) in enumerate(curves.items()):
        shares = [(number + 1) / len(values) for number in range(len(values))]
        axes.plot(shares, values.tolist(), label=name, color=colours(index / max(1, len(curves) - 1)), linewidth=1.2)
    axes.set_xlabel("singular values kept, share of all")
    axes.grid(visible=True)


def _draw_ranks(axes: Axes, energies: Mapping[str, Tensor]) -> None:
    blocks = range(1, len(energies) + 1)
    for index, share in enumerate(SHARES):
        ranks = [rank_for_energy(energy, share) / len(energy) for energy in energies.values()]
        axes.plot(blocks, ranks, marker_of(index) + "-", color=colour_of(index), label=f"{share:.0%}", markersize=4)
    axes.set_xlabel("block, in the network's order")
    axes.set_ylabel("rank, share of all")
    axes.set_ylim(0, 1.02)
    axes.grid(visible=True)
    axes.legend(fontsize=7, title="energy held", title_fontsize=7)
