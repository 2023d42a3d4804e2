"""Published data sets by name, and the parts and faults of a downloaded one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from datamodules.base.checks import Check
from datamodules.base.parts import Part, PublishedDataSet
from datamodules.errors import DataError, Faults, collect_faults
from datamodules.pairs.matching import Pairs
from datamodules.restoration.gopro import GoProDataModule
from datamodules.restoration.rain13k import Rain13kDataModule
from datamodules.restoration.realblur import RealBlurDataModule
from datamodules.restoration.reside import RESIDEDataModule
from datamodules.restoration.sidd import SIDDDataModule
from datamodules.restoration.super_resolution import SuperResolutionDataModule
from datamodules.spectral.cave_kaist import CASSIDataModule
from datamodules.spectral.ntire2022 import NTIRE2022DataModule
from datamodules.video.deblurring import DVDDataModule, GoProVideoDataModule
from datamodules.video.denoising import DAVISDataModule
from datamodules.video.reds import REDSDataModule
from datamodules.video.super_resolution import Vid4DataModule
from datamodules.video.vimeo90k import Vimeo90KDataModule

DatasetName = Literal[
    "gopro",
    "realblur",
    "rain13k",
    "sidd",
    "div2k",
    "reside",
    "ntire2022",
    "cassi",
    "reds",
    "vid4",
    "vimeo90k",
    "gopro_video",
    "dvd",
    "davis",
]

DATA_SETS: dict[DatasetName, type[PublishedDataSet]] = {
    "gopro": GoProDataModule,
    "realblur": RealBlurDataModule,
    "rain13k": Rain13kDataModule,
    "sidd": SIDDDataModule,
    "div2k": SuperResolutionDataModule,
    "reside": RESIDEDataModule,
    "ntire2022": NTIRE2022DataModule,
    "cassi": CASSIDataModule,
    "reds": REDSDataModule,
    "vid4": Vid4DataModule,
    "vimeo90k": Vimeo90KDataModule,
    "gopro_video": GoProVideoDataModule,
    "dvd": DVDDataModule,
    "davis": DAVISDataModule,
}


@dataclass(frozen=True)
class FoundPart:
    """A part of a data set that is there.

    Attributes:
        name: as tables call it.
        published: how many items it has as published; None if that is not known.
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
class Source:
    """A data set as it lies on disk.

    Attributes:
        dataset: its name.
        root: its folder, or the one that it is in.
        scale: size of its targets relative to its inputs.
        sets: its parts that are there.
        absent: names of published parts that are not.
        faults: of folders, names and counts.
    """

    dataset: DatasetName
    root: Path
    scale: int
    sets: tuple[FoundPart, ...]
    absent: tuple[str, ...]
    faults: Faults

    def pairs(self, name: str) -> Pairs | None:
        """The pairs of a part; None if it is not there."""
        return next((part.pairs for part in self.sets if part.name == name), None)


def find_source(dataset: DatasetName, root: Path, *, scale: int | None = None) -> Source:
    """Find the parts of a data set; nothing but names is looked at, apart from MATLAB files of blocks, which are read.

    Args:
        dataset: which.
        root: its folder, or the one that it is in.
        scale: size of its targets relative to its inputs; None: the usual one.

    Returns:
        The parts that are there, and every fault of folders and names.

    Raises:
        DataError: if there is no part of the data set in `root`.
        ValueError: if the data set has not that scale.
    """
    scales = DATA_SETS[dataset].scales
    if scale is not None and scales == (1,):
        raise ValueError(f"scale ({scale}) must be null for {dataset}, whose inputs are as large as their targets")
    found: list[FoundPart] = []
    absent: list[str] = []
    chosen = scales[0] if scale is None else scale
    with collect_faults() as faults:
        for part in DATA_SETS[dataset].parts(root, chosen):
            if part.find is None:
                absent.append(part.name)
                continue
            try:
                items = part.find()
            except DataError as error:
                faults.errors.append(str(error))
                continue
            pairs = items if isinstance(items, Pairs) else None
            found.append(FoundPart(part.name, part.published, len(items), tuple(_checks(part, items)), pairs))
    if not found and not faults.errors:
        raise DataError(
            f"source ({root}) must hold a part of {dataset} ({', '.join(absent)}), got none; download it, or check the "
            "path"
        )
    return Source(dataset, root, chosen, tuple(found), tuple(absent), faults)


def _checks(part: Part, items: Pairs | Sequence[Any]) -> Iterator[Check]:
    if isinstance(items, Pairs):
        for image, target in zip(items.inputs, items.targets, strict=True):
            yield partial(part.check, image, target)
    else:
        for item in items:
            yield partial(part.check, item)
