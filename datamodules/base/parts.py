"""A downloaded data set as named parts: how each is found, how many items were published, how one is checked."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datamodules.base.checks import Check
from datamodules.pairs.matching import Pairs
from datamodules.spectral.scenes import Scene, check_photograph


@dataclass(frozen=True)
class SourceSet:
    """A part of a data set.

    Attributes:
        name: as tables call it.
        published: how many images it has as published; None if that is not known.
        count: how many it has here.
        checks: of each of its files.
        pairs: its images, where it has pairs.
    """

    name: str
    published: int | None
    count: int
    checks: tuple[Check, ...]
    pairs: Pairs | None = None


@dataclass(frozen=True)
class _Part:
    name: str
    published: int | None
    find: Callable[[], Pairs | list[Scene] | list[Path]]
    scale: int = 1
    crops_targets: bool = False
    # Of a part of single files.
    check: Callable[[Path], list[str]] = check_photograph
