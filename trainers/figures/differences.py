"""Differences of two evaluations, image by image, as sorted bars."""

from dataclasses import asdict

from trainers.evaluation.differences import Differences
from trainers.figures.style import COLOURS, Drawing, new_figure, styled


def draw_differences(differences: Differences, *, first: str, second: str) -> Drawing:
    """Draw the change of every image, the largest loss first; gains are blue, losses orange, the mean dashed.

    Args:
        differences: of two evaluations.
        first: name of the first one.
        second: name of the second one.

    Returns:
        The figure; in its rows both values of every image.
    """
    images = differences.images
    changes = [image.change for image in images]
    gains = [change > 0 if differences.higher_is_better else change < 0 for change in changes]
    with styled():
        figure = new_figure(3.2)
        axes = figure.subplots()
        axes.bar(range(len(changes)), changes, width=1.0, color=[COLOURS[0 if gain else 1] for gain in gains])
        axes.axhline(differences.mean, color="black", linewidth=0.8, linestyle="--")
        axes.set_xlabel(f"{len(changes)} images, the largest loss first")
        axes.set_ylabel(f"change of {differences.metric}")
        axes.set_title(f"{second}\nagainst {first}; mean {differences.mean:+.4g} (dashed)", fontsize=7)
    rows = [{**asdict(each), "change": each.change} for each in images]
    return Drawing(figure, rows)
