"""`lowrank figure quality`: quality against cost of every kernel and size, with the Pareto front."""

from pathlib import Path

from trainers.commands.figure.output import tell
from trainers.figures.points import Cost, Quality, read_points
from trainers.figures.quality import draw_quality
from trainers.figures.style import Drawing


def figure_quality(
    results: list[Path],
    *,
    cost: Cost = "seconds",
    quality: Quality = "fidelity",
    title: str = "",
    output: Path = Path("logs/figures/quality"),
) -> Drawing:
    """Draw quality against cost: a point for every kernel and size, the Pareto front, exact attention as lines.

    Args:
        results: files of results: `metrics.json` of compare or test (or its folder), JSON of bench, a plan's YAML, or
            the CSV beside such a figure. What has the same label in several is one point, for which the later file
            counts: `compare/metrics.json bench.json` puts the times of a bench to the fidelity of a comparison.
        cost: seconds, macs (multiply-adds of the attention) or bytes (of memory).
        quality: fidelity (dB to exact attention's output), lost (dB of the first metric), error (relative, of
            `bench attention --queries`) or score (mean of the first metric).
        title: of the figure.
        output: name of the files: PDF, PNG and CSV; their folder is made if it is missing.

    Returns:
        The figure and its points.

    Raises:
        ValueError: if a file holds no results, or none of them has both.
        OSError: if a file cannot be read.
    """
    drawing = draw_quality(read_points(results), cost=cost, quality=quality, title=title)
    tell(drawing, output)
    return drawing
