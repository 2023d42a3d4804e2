"""What is made of each data set: crops as published scripts cut them, in the layout that its data module reads."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from datamodules.base.published import find_data_set, find_folder
from datamodules.errors import DataError
from datamodules.pairs.matching import Pairs
from datamodules.preparation.crop_plan import Cut, Plan
from datamodules.preparation.inventory import Source
from datamodules.restoration.reside import COUNTS
from datamodules.restoration.super_resolution import SuperResolutionDataModule

CUTS = {
    "gopro": Cut(512, step=256),
    "sidd": Cut(256, random=300),
    "div2k": Cut(480, step=240),
    "rain13k": Cut(None),
    "reside": Cut(None),
}
"""Restormer's crops of GoPro, Uformer's of SIDD, BasicSR's of DIV2K; the others are trained on whole."""


def choose_cut(
    dataset: str, size: int | None = None, step: int | None = None, random: int | None = None, seed: int = 0
) -> Cut:
    """How a data set is cut: as published, but for what is given; a step makes a grid of what is cut at random.

    Raises:
        ValueError: if the data set is not cut, or both a grid and random places are asked for.
    """
    published = CUTS[dataset]
    given = [name for name, value in (("crop_size", size), ("step", step), ("crops_per_image", random)) if value]
    if published.size is None and given:
        raise ValueError(f"{given[0]} must be null for {dataset}, whose images are trained on whole")
    if step is not None and random is not None:
        raise ValueError(f"step ({step}) must be null where crops_per_image ({random}) places crops at random")
    grid = step is not None or (random is None and published.random is None)
    return Cut(
        published.size if size is None else size,
        (published.step if step is None else step) if grid else None,
        None if grid else published.random if random is None else random,
        seed,
    )


def make_plans(
    dataset: str, source: Source, output: Path, cut: Cut, *, scale: int = 1, pack: bool = False
) -> list[Plan]:
    """Say what is to be made of a source.

    Args:
        dataset: which it is.
        source: as it was found.
        output: folder that gets the data set's own.
        cut: where crops are.
        scale: of super-resolution.
        pack: make packs.

    Returns:
        A plan for each training set.

    Raises:
        DataError: if there is no training set.
        ValueError: if the numbers do not fit, see `Plan`.
    """
    plans = [
        Plan(dataset, pairs, output / folder, inputs, targets, cut, scale, pack)
        for name, folder, inputs, targets in _places(dataset, scale)
        if (pairs := _plain_names(source.pairs(name), scale))
    ]
    if not plans:
        wanted = " or ".join(name for name, *_ in _places(dataset, scale))
        raise DataError(f"source must hold {wanted} to make training data of, got none; download it, or omit output")
    return plans


def make_links(dataset: str, root: Path, output: Path) -> None:
    """Put links beside what is made to what is used as it is: test and validation sets.

    Args:
        dataset: which it is.
        root: the source.
        output: folder that has the data set's own.

    Raises:
        OSError: if the file system has no links.
    """
    for place, original in _originals(dataset, root):
        link = output / place
        if not link.is_symlink() and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(original.resolve())


def _places(dataset: str, scale: int) -> list[tuple[str, str, str, str]]:
    """Name, folder, and folders of inputs and targets of each training set."""
    reside = [(f"{name}/train", f"{name}/train", "hazy", "GT") for name in COUNTS]
    return {
        "gopro": [("GoPro/train", "GoPro/train", "input", "target")],
        "sidd": [("SIDD-Medium", "SIDD/train", "input", "groundtruth")],
        "div2k": [("DIV2K", "DIV2K", f"DIV2K_train_LR_bicubic/X{scale}", "DIV2K_train_HR")],
        "rain13k": [("Rain13K/train", "Rain13K/train", "input", "target")],
        "reside": reside,
    }[dataset]


def _plain_names(pairs: Pairs | None, scale: int) -> Pairs | None:
    """The pairs under the names of their targets, which inputs of a scale have with `x2` behind."""
    if pairs is None or scale == 1:
        return pairs
    return replace(pairs, names=tuple(name.removesuffix(f"x{scale}") for name in pairs.names))


def _originals(dataset: str, root: Path) -> Iterator[tuple[str, Path]]:
    """Where each link stands, and what it means."""
    if dataset in ("gopro", "rain13k"):
        names = ("GoPro", "GOPRO_Large") if dataset == "gopro" else ("Rain13K",)
        if test := find_folder(find_data_set(root, names), "test"):
            yield f"{names[0]}/test", test
    elif dataset == "sidd":
        for base in (root / "SIDD", root):
            folders = [find_folder(base, name) for name in ("test", "val", "validation")]
            for path in [*sorted(base.glob("Validation*.mat")), *filter(None, folders)]:
                yield f"SIDD/{path.name}", path
    elif dataset == "div2k":
        data = SuperResolutionDataModule(root)
        for name in data.counts:
            if name not in ("DIV2K", "DIV2K_valid") and (folder := data.folder_of(name)):
                yield name, folder
        for name in ("DIV2K_valid_HR", "DIV2K_valid_LR_bicubic"):
            if folder := find_folder(root, name) or find_folder(root / "DIV2K", name):
                yield name, folder
    else:
        for name in COUNTS:
            for base in (root / name, root):
                if (test := base / "test").is_dir() and base.resolve().name == name:
                    yield f"{name}/test", test
