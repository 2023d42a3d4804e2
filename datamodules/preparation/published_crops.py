"""Jobs that cut a data set as published scripts do, in the layout that its data module reads."""

from dataclasses import replace
from pathlib import Path

from datamodules.base.crops import Cut
from datamodules.errors import DataError
from datamodules.pairs.matching import Pairs
from datamodules.preparation.crop_job import CropJob
from datamodules.preparation.inventory import DATA_SETS, DatasetName, Source


def choose_cut(
    dataset: DatasetName,
    size: int | None = None,
    step: int | None = None,
    random: int | None = None,
    seed: int | None = None,
) -> Cut:
    """Choose how a data set is cut: as published, but for what is given; a step makes a grid of what is cut at random.

    Args:
        dataset: which.
        size: side of a crop in pixels of the target.
        step: pixels between neighbouring crops of a grid.
        random: crops of an image at random places.
        seed: of the random places; None: 0.

    Raises:
        ValueError: if a number cannot act: the data set is not cut, both a grid and random places are asked for, or a
            seed where nothing is random.
    """
    published = DATA_SETS[dataset].published_cut
    if published is None:
        raise ValueError(f"output must be null for {dataset}, which is trained on as it is; use verify")
    given = {"crop_size": size, "step": step, "crops_per_image": random, "seed": seed}
    if published.size is None:
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name} must be null for {dataset}, whose images are trained on whole")
    if step is not None and random is not None:
        raise ValueError(f"step ({step}) must be null where crops_per_image ({random}) places crops at random")
    for name, value in given.items():
        if value is not None and value < (0 if name == "seed" else 1):
            raise ValueError(f"{name} ({value}) must be at least {0 if name == 'seed' else 1}")
    grid = step is not None or (random is None and published.random is None)
    if grid and seed is not None:
        raise ValueError(
            f"seed ({seed}) must be null where crops lie on a grid; give crops_per_image for random places"
        )
    return Cut(
        published.size if size is None else size,
        (published.step if step is None else step) if grid else None,
        None if grid else published.random if random is None else random,
        0 if seed is None else seed,
    )


def make_jobs(source: Source, output: Path, cut: Cut, *, pack: bool = False) -> list[CropJob]:
    """List the crops or packs that are to be made of a source.

    Args:
        source: as it was found.
        output: folder that gets the data set's own.
        cut: places of the crops.
        pack: make packs.

    Returns:
        A job for each training set.

    Raises:
        DataError: if there is no training set.
        ValueError: if the numbers do not fit, see `CropJob`.
    """
    folders = DATA_SETS[source.dataset].training_folders(source.scale)
    jobs = [
        CropJob(source.dataset, pairs, output / place.folder, place.inputs, place.targets, cut, source.scale, pack)
        for place in folders
        if (pairs := _plain_names(source.pairs(place.part), source.scale))
    ]
    if not jobs:
        wanted = " or ".join(place.part for place in folders)
        raise DataError(f"source must hold {wanted} to make training data of, got none; download it, or omit output")
    return jobs


def make_links(source: Source, output: Path) -> None:
    """Put links to the test and validation sets, which are used as they are, beside the crops.

    Args:
        source: as it was found.
        output: folder that has the data set's own.

    Raises:
        OSError: if the file system has no links.
    """
    for place, original in DATA_SETS[source.dataset].links(source.root):
        link = output / place
        if not link.is_symlink() and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(original.resolve())


def _plain_names(pairs: Pairs | None, scale: int) -> Pairs | None:
    """The pairs under the names of their targets, which inputs of a scale have with `x2` behind."""
    if pairs is None or scale == 1:
        return pairs
    return replace(pairs, names=tuple(name.removesuffix(f"x{scale}") for name in pairs.names))
