"""What a run has logged, read back: curves and pictures, from TensorBoard's event files or from metrics.csv."""

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import DecodeError
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event

Value = TypeVar("Value")
_CSV_NO_TAGS = ("step", "epoch")
_MOST_TAGS = 500
_MOST_PICTURES = 6
"""Steps of a picture that are kept."""


@dataclass(frozen=True)
class Logged:
    """Curves and pictures of a run.

    Attributes:
        scalars: tag → pairs (step, value), in the order of steps, one for each step; values may be NaN.
        pictures: tag → pairs (step, content of the image file), in that order; the first, the last, and some between.
    """

    scalars: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    pictures: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)


def read_logged(folder: Path, allowed: Callable[[Path], bool] = Path.is_file) -> Logged:
    """Read the curves and pictures of a run.

    Event files may end in the middle of an event, as killed runs leave them; what comes before it is read. Where there
    are none, `metrics.csv` of Lightning's CSVLogger is.

    Args:
        folder: log folder of the run.
        allowed: whether a file may be read.
    """
    scalars: dict[str, dict[int, float]] = {}
    pictures: dict[str, dict[int, bytes]] = {}
    files = [file for file in sorted(folder.glob("events.out.tfevents.*")) if allowed(file)]
    for file in files:
        for event in _events(file):
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    _add(scalars, value.tag, event.step, value.simple_value)
                elif value.HasField("image"):
                    _add(pictures, value.tag, event.step, value.image.encoded_image_string)
                    _thin(pictures.get(value.tag, {}))
    table = folder / "metrics.csv"
    if not files and allowed(table):
        for tag, step, number in _rows(table):
            _add(scalars, tag, step, number)
    return Logged(
        {tag: sorted(values.items()) for tag, values in scalars.items()},
        {tag: sorted(values.items()) for tag, values in pictures.items()},
    )


def _add(found: dict[str, dict[int, Value]], tag: str, step: int, value: Value) -> None:
    # A run has dozens; a file that was made to take memory has more.
    if tag in found or len(found) < _MOST_TAGS:
        found.setdefault(tag, {})[step] = value


def _thin(steps: dict[int, bytes]) -> None:
    """Of too many steps, remove the one that is nearest to its neighbours."""
    if len(steps) > _MOST_PICTURES:
        ordered = sorted(steps)
        nearest = min(range(1, len(ordered) - 1), key=lambda index: ordered[index + 1] - ordered[index - 1])
        del steps[ordered[nearest]]


def _events(file: Path) -> Iterator[Event]:
    try:
        for raw in RawEventFileLoader(str(file)).Load():
            yield Event.FromString(raw)
    except (DecodeError, ValueError, RuntimeError, OSError):
        # Not an event file, or damaged: what came before is what there is.
        return


def _rows(file: Path) -> Iterator[tuple[str, int, float]]:
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                step = _number(row.get("step"))
                if math.isfinite(step):
                    for tag, text in row.items():
                        if isinstance(tag, str) and tag not in _CSV_NO_TAGS and isinstance(text, str) and text:
                            yield tag, int(step), _number(text)
    except (UnicodeDecodeError, csv.Error):
        return


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
