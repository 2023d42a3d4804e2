"""The verb `data`: where the published data sets are, under which terms, and in which layout."""

import dataclasses
import json as text
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from datamodules.preparation.sources import PublishedSource, published_sources
from glmha.shared.released.download import fetch
from trainers.errors import nearest

LARGEST_ARCHIVE = 2**40
"""Bytes; Vimeo-90K has 82 GB."""


def run_data(names: Sequence[str] = (), *, output: Path | None = None, json: bool = False) -> None:
    """List the data sets that this package has modules for, or describe some: where they are, terms, layout, counts.

    Most lie on drives that ask questions, so that a person has to download them. With `output`, what a program can
    fetch of the named sets is downloaded there, resumed after an interruption; unpack it, and check it by `lowrank
    prepare`.

    Args:
        names: data sets to describe; none lists all.
        output: folder to download into; null: nothing is downloaded.
        json: as JSON instead of lines.

    Raises:
        ValueError: if there is no such data set, nothing is named to download, or a download fails.
    """
    table = published_sources()
    for name in names:
        if name not in table:
            raise ValueError(f"names ({name}) must be data sets{nearest(name, table)}")
    if output is not None:
        _download([table[name] for name in names], output)
        return
    chosen = [table[name] for name in names] or list(table.values())
    if json:
        described = [dataclasses.asdict(entry) | {"facts": entry.facts} for entry in chosen]
        print(text.dumps(described, indent=2, ensure_ascii=False))
    elif names:
        print("\n\n".join(map(_description, chosen)))
    else:
        width = max(map(len, table))
        for entry in chosen:
            fetched = "in part by a program" if any(place.address for place in entry.sources) else "by hand"
            print(f"{entry.name:{width}}  {entry.task}; {fetched}; {entry.terms}")
        print("\nlowrank data NAME tells where it is and how it has to lie on disk.")


def _description(entry: PublishedSource) -> str:
    lines = [entry.title, f"task: {entry.task}", f"terms: {entry.terms}"]
    for place in entry.sources:
        lines.append(f"{'fetch' if place.address else 'by hand'}: {place.what}: {place.address or place.page}")
    return "\n".join([*lines, "", entry.facts])


def _download(entries: Sequence[PublishedSource], output: Path) -> None:
    places = [place for entry in entries for place in entry.sources if place.address is not None]
    if not places:
        raise ValueError(f"output ({output}) must be null where no data set is named that a program can fetch")
    for place in places:
        address = str(place.address)
        target = output / PurePosixPath(urlsplit(address).path).name
        if target.is_file():
            print(f"kept: {target}")
            continue
        fetch(address, target, "names", largest=LARGEST_ARCHIVE)
        print(f"downloaded: {target} ({place.what})")
