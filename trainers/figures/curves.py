"""Training curves of several runs; runs of one group as their mean with a band."""

from collections.abc import Mapping, Sequence

import numpy as np

from trainers.figures.style import Drawing, colour_of, new_figure, styled

# Curves of so few points, of which one alone would be no line, show each.
_MARKED = 20
Curve = Sequence[tuple[int, float]]
"""Pairs of step and value."""


def draw_curves(groups: Mapping[str, Mapping[str, Curve]], *, tag: str, title: str = "") -> Drawing:
    """Draw a curve for each run, or of runs that belong together, such as seeds of one configuration, mean and range.

    The mean and the range from the least to the largest value are over the runs that have a value at that step or
    reach beyond it; between their steps, curves are taken to be straight.

    Args:
        groups: name → its runs, name → pairs (step, value).
        tag: what the values are, for the axis.
        title: of the figure.

    Returns:
        The figure; in its rows every value of every run.

    Raises:
        ValueError: if no run has a value.
    """
    found = {name: {run: curve for run, curve in runs.items() if curve} for name, runs in groups.items()}
    found = {name: runs for name, runs in found.items() if runs}
    if not found:
        raise ValueError(f"runs must have values of {tag}, got none in {', '.join(groups) or 'no run'}")
    with styled():
        figure = new_figure(3.6)
        axes = figure.subplots()
        for number, (name, runs) in enumerate(found.items()):
            steps = np.unique([step for curve in runs.values() for step, _ in curve])
            values = np.array([_at(steps, curve) for curve in runs.values()])
            label = f"{name}, {len(runs)} runs" if len(runs) > 1 else name
            known = ~np.isnan(values).all(0)
            steps, values = steps[known], values[:, known]
            marker = "." if len(steps) <= _MARKED else None
            axes.plot(steps, np.nanmean(values, 0), color=colour_of(number), label=label, marker=marker)
            if len(runs) > 1:
                least, most = np.nanmin(values, 0), np.nanmax(values, 0)
                axes.fill_between(steps, least, most, color=colour_of(number), alpha=0.2, linewidth=0)
        axes.set_xlabel("step")
        axes.set_ylabel(tag)
        axes.grid(visible=True)
        axes.legend()
        if title:
            axes.set_title(title)
    rows = [
        {"group": name, "run": run, "step": step, tag: value}
        for name, runs in found.items()
        for run, curve in runs.items()
        for step, value in curve
    ]
    return Drawing(figure, rows)


def _at(steps: np.ndarray, curve: Curve) -> np.ndarray:
    """The values of a curve at some steps; NaN before its first and after its last one."""
    known, values = np.asarray(curve, dtype=float).T
    return np.interp(steps, known, values, left=np.nan, right=np.nan)
