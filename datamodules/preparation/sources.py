"""Where the published data sets are, and under which terms."""

import functools
import inspect
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files

import yaml


@dataclass(frozen=True)
class Place:
    """Where a part of a data set is.

    Attributes:
        what: the part.
        address: of a file that a program can fetch; None where a person has to.
        page: where a person downloads it; None where a program can.
    """

    what: str
    address: str | None = None
    page: str | None = None


@dataclass(frozen=True)
class PublishedSource:
    """A published data set.

    Attributes:
        name: short name, which `lowrank prepare` takes where it prepares the set.
        title: with its authors.
        task: what networks learn of it.
        module: name of the data module, in `datamodules`.
        terms: of use.
        sources: its parts.
    """

    name: str
    title: str
    task: str
    module: str
    terms: str
    sources: tuple[Place, ...]

    @property
    def facts(self) -> str:
        """Layout and counts, as the data module documents them."""
        text = inspect.getdoc(getattr(import_module("datamodules"), self.module)) or ""
        return text.partition("\nArgs:")[0].rstrip()


@functools.cache
def published_sources() -> dict[str, PublishedSource]:
    """Return every published data set by its short name."""
    table = yaml.safe_load(files(__package__).joinpath("sources.yaml").read_text(encoding="utf-8"))
    return {
        name: PublishedSource(name=name, **{**entry, "sources": tuple(Place(**place) for place in entry["sources"])})
        for name, entry in table.items()
    }
