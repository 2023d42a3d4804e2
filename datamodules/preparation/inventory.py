"""What the parts of a downloaded data set are, found by its data module, with what has to be looked at of each."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from datamodules.base.checks import Check, check_pair, check_reading
from datamodules.base.paired import PairedImageDataModule
from datamodules.base.parts import SourceSet, _Part
from datamodules.base.published import find_data_set, find_folder, shortfall
from datamodules.errors import DataError, Faults, collect_faults
from datamodules.files.cubes import read_mask
from datamodules.files.images import list_images
from datamodules.pairs.matching import Pairs
from datamodules.restoration.gopro import TRAIN_COUNT as GOPRO_COUNT
from datamodules.restoration.gopro import GoProDataModule
from datamodules.restoration.rain13k import TRAIN_COUNT as RAIN13K_COUNT
from datamodules.restoration.rain13k import Rain13kDataModule
from datamodules.restoration.realblur import TRAIN_COUNT as REALBLUR_COUNT
from datamodules.restoration.realblur import RealBlurDataModule
from datamodules.restoration.reside import COUNTS, SOTS_COUNTS, RESIDEDataModule
from datamodules.restoration.sidd import MEDIUM_COUNT, TEST_COUNT, BlockPairs, SIDDDataModule, medium_pairs
from datamodules.restoration.super_resolution import SuperResolutionDataModule
from datamodules.spectral.cave_kaist import TEST_COUNT as KAIST_COUNT
from datamodules.spectral.cave_kaist import TRAIN_COUNT as CAVE_COUNT
from datamodules.spectral.cave_kaist import CASSIDataModule, read_levels, read_truth
from datamodules.spectral.ntire2022 import TRAIN_COUNT, VALID_COUNT, NTIRE2022DataModule
from datamodules.spectral.scenes import Scene, check_scene

DatasetName = Literal["gopro", "realblur", "rain13k", "sidd", "div2k", "reside", "ntire2022", "cassi"]


@dataclass(frozen=True)
class Source:
    """A data set as it lies on disk.

    Attributes:
        sets: its parts that are there.
        absent: names of published parts that are not.
        faults: what is wrong with folders, names and counts.
    """

    sets: tuple[SourceSet, ...]
    absent: tuple[str, ...]
    faults: Faults

    def pairs(self, name: str) -> Pairs | None:
        """The pairs of a part; None if it is not there."""
        return next((part.pairs for part in self.sets if part.name == name), None)


def find_source(dataset: DatasetName, root: Path, *, scale: int = 2) -> Source:
    """Find the parts of a data set; nothing but names is looked at, apart from MATLAB files of blocks, which are read.

    Args:
        dataset: which.
        root: its folder, or the one that it is in.
        scale: of the low-resolution images, for super-resolution.

    Returns:
        The parts that are there, and every fault of folders and names.

    Raises:
        DataError: if there is no part of the data set in `root`.
    """
    sets: list[SourceSet] = []
    absent: list[str] = []
    with collect_faults() as faults:
        for part in _PARTS[dataset](root, scale):
            if isinstance(part, str):
                absent.append(part)
                continue
            try:
                found = part.find()
            except DataError as error:
                faults.errors.append(str(error))
                continue
            pairs = found if isinstance(found, Pairs) else None
            sets.append(SourceSet(part.name, part.published, len(found), tuple(_checks(part, found)), pairs))
    if not sets and not faults.errors:
        raise DataError(
            f"source ({root}) must hold a part of {dataset} ({', '.join(absent)}), got none; download it, or check the "
            "path"
        )
    return Source(tuple(sets), tuple(absent), faults)


def _checks(part: _Part, found: Pairs | list[Scene] | list[Path]) -> Iterator[Check]:
    if isinstance(found, BlockPairs):
        return  # It has been read.
    if isinstance(found, Pairs):
        for image, target in zip(found.inputs, found.targets, strict=True):
            yield partial(check_pair, image, target, scale=part.scale, crop_targets=part.crops_targets)
        return
    for item in found:
        yield partial(check_scene, item) if isinstance(item, Scene) else partial(part.check, item)


def _gopro(root: Path, scale: int) -> Iterator[_Part | str]:
    data = GoProDataModule(root)
    folder = find_data_set(root, ("GoPro", "GOPRO_Large"))
    finds: dict[str, Callable[[], Pairs]] = {"train": data.train_pairs, "test": partial(_tested, data, "GoPro")}
    for split, published in (("train", GOPRO_COUNT), ("test", data.counts["GoPro"])):
        name = f"GoPro/{split}"
        yield _Part(name, published, finds[split]) if (folder / split).is_dir() else name
    hide = GoProDataModule(root, val_images=0, test_sets=["HIDE"])
    present = any((hide.root / place).is_dir() for place in ("HIDE", "test/HIDE"))
    yield _Part("HIDE", hide.counts["HIDE"], partial(_tested, hide, "HIDE")) if present else "HIDE"


def _realblur(root: Path, scale: int) -> Iterator[_Part | str]:
    for name, published in RealBlurDataModule.counts.items():
        data = RealBlurDataModule(root, train_sets=[name], test_sets=[name])  # type: ignore[list-item]  # one of two
        finds: dict[str, Callable[[], Pairs]] = {"train": data.train_pairs, "test": partial(_tested, data, name)}
        for split, count in (("train", REALBLUR_COUNT), ("test", published)):
            part = f"{name}/{split}"
            yield _Part(part, count, finds[split]) if data.place_of(name, split) else part


def _rain13k(root: Path, scale: int) -> Iterator[_Part | str]:
    data = Rain13kDataModule(root)
    folder = find_data_set(root, ("Rain13K",))
    yield _Part("Rain13K/train", RAIN13K_COUNT, data.train_pairs) if (folder / "train").is_dir() else "Rain13K/train"
    for name, published in data.published_counts.items():
        present = (folder / "test" / name).is_dir()
        yield _Part(name, published, partial(_rain_set, root, name)) if present else name


def _rain_set(root: Path, name: str) -> Pairs:
    return Rain13kDataModule(root, val_sets=[name]).val_pairs()[name]


def _sidd(root: Path, scale: int) -> Iterator[_Part | str]:
    data = SIDDDataModule(root)
    if medium := find_medium(root):
        yield _Part("SIDD-Medium", MEDIUM_COUNT, lambda: _counted("SIDD-Medium", medium_pairs(medium), MEDIUM_COUNT))
    else:
        yield "SIDD-Medium"
    bases = [folder for folder in (root / "SIDD", root) if folder.is_dir()]
    crops = any((base / "train").is_dir() for base in bases)
    yield _Part("SIDD/train", None, data.train_pairs) if crops else "SIDD/train"
    blocks = any(find_folder(base, "test", "val", "validation") or [*base.glob("Validation*.mat")] for base in bases)
    yield _Part("SIDD", TEST_COUNT, partial(_tested, data, "SIDD")) if blocks else "SIDD"


def find_medium(root: Path) -> Path | None:
    """The folder of SIDD-Medium's scenes as released; None if it is not in `root`."""
    for base in (root, root / "SIDD"):
        folder = find_folder(base, "SIDD_Medium_Srgb") or base
        if data := find_folder(folder, "Data"):
            return data
    return None


def _div2k(root: Path, scale: int) -> Iterator[_Part | str]:
    data = SuperResolutionDataModule(root, scale=scale)
    for name, published in data.counts.items():
        stem = {"DIV2K": "DIV2K_train", "DIV2K_valid": "DIV2K_valid"}.get(name)
        places = [folder for folder in (find_folder(root, "DIV2K"), root) if folder]
        released = stem is not None and any(find_folder(place, f"{stem}_HR") for place in places)
        if released or data.folder_of(name):
            yield _Part(name, published, partial(_named, data, name), scale)
        else:
            yield name


def _named(data: SuperResolutionDataModule, name: str) -> Pairs:
    pairs = data.find_set(name)
    if pairs is None:
        raise DataError(f"source must hold {name}, got nothing there; check the path")
    return _counted(name, pairs, data.counts[name])


def _reside(root: Path, scale: int) -> Iterator[_Part | str]:
    subsets = [name for name in COUNTS if (root / name).is_dir()]
    sots = [folder for name in SOTS_COUNTS if (folder := root / name).is_dir()]
    if (root / "hazy").is_dir():
        sots.append(root)
    own = [name for name in COUNTS if name == root.resolve().name]
    for subset in subsets or own:
        data = RESIDEDataModule(root, subset=subset)  # type: ignore[arg-type]  # the keys are the literal's
        folder = root / subset if subsets else root
        finds: dict[str, Callable[[], Pairs]] = {"train": data.train_pairs, "test": partial(_tested, data, subset)}
        for split, published in COUNTS[subset].items():
            name = f"{subset}/{split}"
            present = (folder / split).is_dir()
            yield _Part(name, published, finds[split], crops_targets=True) if present else name
    for folder in sots:
        name = folder.resolve().name
        count = SOTS_COUNTS.get(name)
        yield _Part(name, count, partial(_sots, folder, name, count), crops_targets=True)
    if not (subsets or own or sots):
        yield from (*COUNTS, *SOTS_COUNTS)


def _sots(folder: Path, name: str, published: int | None) -> Pairs:
    pairs = _tested(RESIDEDataModule(folder), name)
    return pairs if published is None else _counted(name, pairs, published)


def _ntire2022(root: Path, scale: int) -> Iterator[_Part | str]:
    data = NTIRE2022DataModule(root)
    folder = data.folder()
    for split, published in (("train", TRAIN_COUNT), ("valid", VALID_COUNT)):
        name = f"ARAD_1K-{split}"
        present = (folder / "Train_RGB").is_dir()
        yield _Part(name, published, partial(data.scenes, split)) if present else name
    test = folder / "Test_RGB"
    yield (
        _Part("ARAD_1K-test", None, lambda: list_images(test, "source's Test_RGB")) if test.is_dir() else "ARAD_1K-test"
    )


def _cassi(root: Path, scale: int) -> Iterator[_Part | str]:
    data = CASSIDataModule(root)
    mask = data.mask_file
    parts = {
        data.train_folder: _Part("CAVE", CAVE_COUNT, data.train_scenes, check=partial(check_reading, read=read_levels)),
        data.test_folder: _Part("KAIST", KAIST_COUNT, data.test_scenes, check=partial(check_reading, read=read_truth)),
        mask: _Part("mask", 1, lambda: [mask], check=partial(check_reading, read=read_mask)),
    }
    for place, part in parts.items():
        yield part if place.exists() else part.name


_PARTS: dict[str, Callable[[Path, int], Iterable[_Part | str]]] = {
    "gopro": _gopro,
    "realblur": _realblur,
    "rain13k": _rain13k,
    "sidd": _sidd,
    "div2k": _div2k,
    "reside": _reside,
    "ntire2022": _ntire2022,
    "cassi": _cassi,
}


def _tested(data: PairedImageDataModule, name: str) -> Pairs:
    return data.test_pairs()[name]


def _counted(name: str, pairs: Pairs, published: int) -> Pairs:
    shortfall(name, pairs, published)
    return pairs
