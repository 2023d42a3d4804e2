"""`lowrank figure tokens`: time and memory of attention against the tokens of a window."""

from pathlib import Path

from trainers.commands.figure.output import tell
from trainers.figures.style import Drawing
from trainers.figures.tokens import draw_tokens, read_measured


def figure_tokens(results: list[Path], *, title: str = "", output: Path = Path("logs/figures/tokens")) -> Drawing:
    """Draw time and memory against the tokens of a window, with fitted slopes (PnP-Nystra, Fig. 3).

    Args:
        results: JSON files of `bench attention --output`, each of another window.
        title: of the figure.
        output: name of the files: PDF, PNG and CSV; their folder is made if it is missing.

    Returns:
        The figure, what was measured, and the slopes.

    Raises:
        ValueError: if a file is no such result, they are of different attention, or of one window only.
        OSError: if a file cannot be read.
    """
    drawing = draw_tokens(read_measured(results), title=title)
    tell(drawing, output)
    return drawing
