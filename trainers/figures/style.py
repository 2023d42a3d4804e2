"""The style of all figures, and how they are written: PDF, PNG and the data behind them."""

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from datamodules.files.atomic import atomic_file

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "lines.linewidth": 1.5,
    "lines.markersize": 6,
    # Letters of a PDF stay letters, which can be searched and edited.
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    # The same figure gives the same bytes.
    "svg.hashsalt": "lowrank",
    "figure.dpi": 100,
}
PAGE_WIDTH = 7.0
"""Inches: the width of a page's text, which figures are made for."""
_DPI = 160
_SUFFIXES = (".pdf", ".png", ".svg", ".csv")
# Distinct also for those who do not tell red from green, and in print (Okabe and Ito).
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#8C6D31",
    "#7F7F7F",
    "#6A3D9A",
    "#B2DF8A",
    "#FB9A99",
)
MARKERS = "os^vDXP*<>ph"


@dataclass(frozen=True)
class Drawing:
    """A figure and its data.

    Attributes:
        figure: drawn in `STYLE`.
        rows: of the CSV file; the first one names the columns.
    """

    figure: Figure
    rows: Sequence[Mapping[str, Any]]

    def save(self, path: Path) -> list[Path]:
        """Write PDF, PNG and CSV beside each other, each complete or not at all.

        Args:
            path: name of the files; one of their endings is left away.

        Returns:
            The three files.
        """
        base = path.with_suffix("") if path.suffix.lower() in _SUFFIXES else path
        files = [base.with_name(base.name + suffix) for suffix in (".pdf", ".png", ".csv")]
        for file in files[:2]:
            with atomic_file(file) as stream:
                stream.write(self.encoded(file.suffix[1:]))
        with atomic_file(files[2]) as stream:
            stream.write(csv_text(self.rows).encode())
        return files

    def encoded(self, kind: str) -> bytes:
        """The figure as a file's bytes: "png", "pdf" or "svg"."""
        # Without the date, so that the same figure gives the same file.
        metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
        stream = io.BytesIO()
        with styled():
            arrange(self.figure)
            self.figure.savefig(stream, dpi=_DPI, format=kind, metadata=metadata)
        return stream.getvalue()


def split_label(label: str) -> tuple[str, str]:
    """A kernel's class and its sizes without their names: "LandmarkPooling" and "16, 64, cross".

    Sizes that follow the window are left out, and the others then told by name. Other labels are cut at their first
    number or bracket.

    Args:
        label: of a variant.
    """
    name = re.split(r"\s*[(\d]", label, maxsplit=1)[0] or label
    sizes = label[len(name) :].strip().removeprefix("(").removesuffix(")")
    parts = sizes.split(", ")
    if any(part.endswith("=None") for part in parts):
        return name, ", ".join(part for part in parts if not part.endswith("=None"))
    return name, ", ".join(re.sub(r"^\w+=", "", part).strip("'\"") for part in parts)


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; columns are those of all rows, in the order in which they come up."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


@contextmanager
def styled() -> Iterator[None]:
    """Draw in `STYLE` inside the `with` block."""
    with mpl.rc_context(STYLE):
        yield


def new_figure(height: float, width: float = PAGE_WIDTH) -> Figure:
    """An empty figure that arranges itself.

    Args:
        height: in inches.
        width: in inches.
    """
    return Figure(figsize=(width, height), layout="constrained")


def arrange(figure: Figure) -> None:
    """Arrange a figure for good: each further time its parts would move a little."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def bare(axes: Axes) -> None:
    """Leave titles and labels of axes that hold a picture, and nothing else."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def plain_logarithmic(axis: Axis) -> None:
    """Write the numbers of a logarithmic axis as they are, as many in each power of ten as have room.

    Args:
        axis: with a logarithmic or symlog scale.
    """
    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low) if low > 0 else math.inf
    steps = (1, 1.5, 2, 3, 4, 5, 7) if decades < 1 else (1, 2, 5) if decades < 2.5 else (1,)
    if axis.get_scale() == "log":
        axis.set_major_locator(LogLocator(subs=steps, numticks=20))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def colour_of(index: int) -> str:
    """The colour of the series of a number; they come again after the last."""
    return COLOURS[index % len(COLOURS)]


def marker_of(index: int) -> str:
    """The marker of the series of a number."""
    return MARKERS[index % len(MARKERS)]
