"""What a page is made of: sections of facts, tables, charts, pictures and commands, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from numpy import uint8
from numpy.typing import NDArray

from trainers.reports.tables import Column

Pixels = NDArray[uint8]
"""Shape (H, W, 3), RGB."""


@dataclass(frozen=True)
class Facts:
    """Names with a value each, such as a run's machine and its steps.

    Attributes:
        items: name → value.
        title: above them; empty for none.
    """

    kind: ClassVar[str] = "facts"
    items: Mapping[str, str]
    title: str = ""


@dataclass(frozen=True)
class Tile:
    """One number that is worth being read first.

    Attributes:
        label: what it is.
        value: the number, with its unit.
        note: what else there is to know of it.
    """

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Tiles:
    """A row of numbers in large type.

    Attributes:
        tiles: in their order.
    """

    kind: ClassVar[str] = "tiles"
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Table:
    """A table that its reader can sort by every column.

    Attributes:
        title: above it.
        columns: their headings, keys and formats.
        rows: a mapping for each line; numbers are sorted as numbers.
        notes: below it, such as the protocol of each metric.
        warning: in colour below it; empty for none.
        links: column's key → key of the row's value that holds the address, of the page itself or of its server.
    """

    kind: ClassVar[str] = "table"
    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()
    warning: str = ""
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Series:
    """A line or a cloud of points.

    Attributes:
        name: in the legend.
        points: pairs (x, y); what is not finite is left out, and interrupts a line.
        colour: number of its colour, counted over the whole page, so that a run has the same in every chart.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0


@dataclass(frozen=True)
class Chart:
    """Values over steps, or qualities against costs.

    Attributes:
        title: above it; what the vertical axis shows.
        x: name of the horizontal axis.
        series: at least one.
        log_x: whether the horizontal axis is logarithmic; every x is positive then.
        log_y: whether the vertical axis is.
        front: points that no other one surpasses, in the order of their x, for a chart of points; None for lines.
    """

    title: str
    x: str
    series: Sequence[Series]
    log_x: bool = False
    log_y: bool = False
    front: Sequence[tuple[float, float]] | None = None


@dataclass(frozen=True)
class Charts:
    """Charts side by side.

    Attributes:
        charts: at least one.
        title: above them; empty for none.
        legend: one for all of them, whose entries switch their series on and off; empty for a legend in each chart.
        notes: below them.
    """

    kind: ClassVar[str] = "charts"
    charts: Sequence[Chart]
    title: str = ""
    legend: Sequence[tuple[str, int]] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Layer:
    """One picture of several of the same thing.

    Attributes:
        label: what it is, such as "input", or the kernel that restored it.
        pixels: the picture.
        role: whether it is what was given, what was made of it, or what is wanted.
    """

    label: str
    pixels: Pixels
    role: Literal["input", "variant", "target"] = "variant"


@dataclass(frozen=True)
class Scene:
    """Pictures of the same thing, to be laid over each other; of one picture alone nothing is compared.

    Attributes:
        name: of the image.
        layers: of one size, where there are several.
    """

    name: str
    layers: Sequence[Layer]


@dataclass(frozen=True)
class Viewer:
    """Scenes to look at, one at a time, at any magnification.

    Attributes:
        title: above it.
        scenes: at least one.
        notes: below it.
    """

    kind: ClassVar[str] = "viewer"
    title: str
    scenes: Sequence[Scene]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Commands:
    """Commands to be copied.

    Attributes:
        items: purpose → command.
    """

    kind: ClassVar[str] = "commands"
    items: Mapping[str, str]


@dataclass(frozen=True)
class Text:
    """Lines as they stand in a file.

    Attributes:
        lines: without their ends.
        title: above them.
    """

    kind: ClassVar[str] = "text"
    lines: Sequence[str]
    title: str = ""


@dataclass(frozen=True)
class Notice:
    """A sentence that must not be missed.

    Attributes:
        text: the sentence.
    """

    kind: ClassVar[str] = "notice"
    text: str


@dataclass(frozen=True)
class Folded:
    """Blocks that are shown when they are asked for, and in print.

    Attributes:
        title: what is shown of them before.
        blocks: what is folded.
    """

    kind: ClassVar[str] = "folded"
    title: str
    blocks: Sequence["Block"]


Block = Facts | Tiles | Table | Charts | Viewer | Commands | Text | Notice | Folded


@dataclass(frozen=True)
class Section:
    """A part of the page that its contents list.

    Attributes:
        title: its heading.
        blocks: what it shows, at least one.
    """

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes:
        title: its heading, and the name of the window.
        subtitle: a line below.
        state: of the run in a word, such as "finished"; empty if the page is not of one run.
        made: when, and by what.
        sections: in their order.
        home: address of the page that leads here, on a server; empty for none.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]
    state: str = ""
    made: str = ""
    home: str = ""
