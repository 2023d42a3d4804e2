"""Which data sets a run is scored on, and how many images each has when it is whole."""

from collections.abc import Mapping, Sequence
from typing import Literal

from lightning.pytorch import LightningDataModule, Trainer

from datamodules.base.restoration import RestorationDataModule
from datamodules.base.video import ClipDataModule


def data_module(trainer: Trainer) -> LightningDataModule | None:
    """The run's data module; None if it was given loaders only."""
    data: LightningDataModule | None = trainer.datamodule  # type: ignore[attr-defined]  # set by a connector
    return data


def data_sets(trainer: Trainer, stage: Literal["val", "test", "predict"]) -> dict[str, int]:
    """Names of a stage's data sets, in the order of their loaders, and how many images each has.

    Data modules of this package name them. Other sets are called by the stage and, if there are several, a number.
    """
    loaders = getattr(trainer, f"{stage}_dataloaders")
    loaders = loaders if isinstance(loaders, list) else [loaders]
    data = data_module(trainer)
    if isinstance(data, RestorationDataModule):
        names = data.val_set_names if stage == "val" else data.test_set_names
    else:
        names = [stage] if len(loaders) == 1 else [f"{stage}{number}" for number in range(1, len(loaders) + 1)]
    return {name: len(loader.dataset) for name, loader in zip(names, loaders, strict=True)}


def scored_frames(data: LightningDataModule | None, count: int) -> Sequence[int]:
    """Numbers of the frames of a clip of `count` frames that are scored: all, unless a data module says otherwise."""
    return data.scored_frames(count) if isinstance(data, ClipDataModule) else range(count)


def expected_images(trainer: Trainer, stage: Literal["val", "test"]) -> dict[str, int]:
    """Number of images that each of a stage's data sets has when it is whole, of a test also of the absent sets.

    A set whose published size is not known is whole as it is.
    """
    data, found = data_module(trainer), data_sets(trainer, stage)
    whole = whole_sets(data, found)
    return whole if stage == "test" else {name: whole[name] for name in found}


def whole_sets(data: LightningDataModule | None, found: Mapping[str, int]) -> dict[str, int]:
    """Number of images that each data set has when it is whole: those found, and those that are absent.

    Args:
        data: the data module; None: loaders only.
        found: data set → number of its images that are there.
    """
    published = data.published_counts if isinstance(data, RestorationDataModule) else {}
    return {name: max(published.get(name, 0), found.get(name, 0)) for name in [*published, *found]}
