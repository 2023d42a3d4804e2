"""The table of released checkpoints: what each is for, where it is, under which licence."""

import functools
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml


@dataclass(frozen=True)
class Released:
    """A checkpoint that its authors have published.

    Attributes:
        name: what it is called here, such as restormer-deraining.
        family: of its network.
        task: what it restores.
        file: upstream's name of the file, with its folder on the drive where there is one.
        parameters: number of the network's parameters.
        upstream: repository of its authors.
        paper: where it is described.
        licence: of the weights, as upstream states it.
        commercial: whether the licence allows commercial use.
        address: of the file, for programs; None where a person has to download it.
        page: where a person downloads it; None where a program can.
        size: of the file in bytes; None: not known before the first download.
        sha256: digest of the file; None: noted at the first download.
        figure: the publisher's own number with its protocol; None: upstream states none in text, see the paper.
        note: what else has to be known; None: nothing.
    """

    name: str
    family: str
    task: str
    file: str
    parameters: int
    upstream: str
    paper: str
    licence: str
    commercial: bool
    address: str | None = None
    page: str | None = None
    size: int | None = None
    sha256: str | None = None
    figure: str | None = None
    note: str | None = None

    @property
    def suffix(self) -> str:
        """The file's ending, with its dot."""
        return self.file[self.file.rindex(".") :]


@functools.cache
def released() -> dict[str, Released]:
    """Return every released checkpoint by its name.

    Examples:
        >>> from glmha.shared.released.table import released
        >>> released()["restormer-deraining"].address
        'https://github.com/swz30/Restormer/releases/download/v1.0/deraining.pth'
    """
    families = yaml.safe_load(files(__package__).joinpath("table.yaml").read_text(encoding="utf-8"))
    return {
        name: _entry(name, family, common, own)
        for family, common in families.items()
        for name, own in common["checkpoints"].items()
    }


def _entry(name: str, family: str, common: dict[str, Any], own: dict[str, Any]) -> Released:
    """Fill in what all checkpoints of a family share; an entry's own page comes before the family's."""
    values = {key: value for key, value in common.items() if key != "checkpoints"} | own
    if "address" in values:
        values["address"] += values["file"]
    return Released(name=name, family=family, **values)
