"""A published data set as named parts: how each is found, how many items it has as published, how one is checked."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from datamodules.base.checks import check_pair
from datamodules.base.crops import Cut, TrainingFolders
from datamodules.pairs.matching import Pairs


@dataclass(frozen=True)
class Part:
    """A part of a data set, such as its training pairs.

    Attributes:
        name: as tables call it.
        published: how many items it has as published; None if that is not known.
        find: lists its pairs, or its single items such as files; None if the part is not there.
        check: reads a pair (input, target) or a single item: a message for each fault.
    """

    name: str
    published: int | None
    find: Callable[[], Pairs | Sequence[Any]] | None
    check: Callable[..., list[str]] = check_pair


class PublishedDataSet(ABC):
    """A data set that `lowrank prepare` looks over, and whose training images it may cut.

    Attributes:
        scales: sizes of a target relative to its input that the set has, the usual one first.
        published_cut: how published scripts cut its training images; None: it is trained on as it is.
    """

    scales: ClassVar[tuple[int, ...]] = (1,)
    published_cut: ClassVar[Cut | None] = None

    @classmethod
    @abstractmethod
    def parts(cls, root: Path, scale: int) -> Iterable[Part]:
        """List all parts of the set, also those that are not in `root`.

        Args:
            root: the set's folder, or the one that it is in.
            scale: one of `scales`.

        Raises:
            DataError: if `root` is no folder of the set.
        """

    @classmethod
    def training_folders(cls, scale: int) -> Sequence[TrainingFolders]:
        """List the folders that its training sets are cut into; empty where `published_cut` is None."""
        return ()

    @classmethod
    def links(cls, root: Path) -> Iterable[tuple[str, Path]]:
        """List what is used as it is beside the crops, such as test sets.

        Args:
            root: the set's folder, or the one that it is in.

        Returns:
            Place beside the crops, and the file or folder in `root` that a link there means.
        """
        return ()
