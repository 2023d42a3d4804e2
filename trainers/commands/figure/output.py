"""Writing of figures by verbs."""

from pathlib import Path

from rich.console import Console

from trainers.errors import printable
from trainers.figures.style import Drawing


def tell(drawing: Drawing, output: Path) -> None:
    """Write a figure's files, and print their names."""
    for file in drawing.save(output):
        Console(markup=False, emoji=False).print(
            f"{file.suffix[1:]}: {printable(str(file))}", soft_wrap=True, highlight=False
        )
