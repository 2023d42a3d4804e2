"""The base of data modules of several named benchmark sets below one folder."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from datamodules.base.paired import PairedImageDataModule
from datamodules.base.published import find_folder, shortfall
from datamodules.errors import DataError
from datamodules.pairs.degraded import CleanImages
from datamodules.pairs.matching import Pairs


class BenchmarkDataModule(PairedImageDataModule):
    """Test sets by name below one folder; subclasses implement `find_set`, and `is_set` where `root` may be a set.

    A folder with some of the test sets is evaluated on those, and the others are named. Inputs may be made from the
    targets as they are read (`CleanImages`).

    Args:
        root: the folder that holds the sets.
        test_sets: their names.
        val_sets: those that validate during training.
        **kwargs: of `PairedImageDataModule`.

    Attributes:
        counts: images of each published set; others may have any number.
        aliases: other names of the sets' folders.
        absent_test_sets: test sets that are not there, after `setup("test")` or `setup("predict")`.
    """

    counts: ClassVar[Mapping[str, int]]
    aliases: ClassVar[Mapping[str, Sequence[str]]] = {}

    def __init__(self, root: Path, *, test_sets: Sequence[str], val_sets: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)
        self.test_sets = list(test_sets)
        self.val_sets = list(val_sets)
        self.absent_test_sets: list[str] = []

    @abstractmethod
    def find_set(self, name: str) -> Pairs | None:
        """Find a set; None if it is not there, DataError if a part of it is not."""

    def is_set(self, folder: Path) -> bool:
        """Whether a folder holds the images of a set."""
        return False

    def sets_folder(self) -> Path:
        """The folder that the sets are in: `root`, unless a data set has another for them."""
        return self.root

    def own_set(self) -> str | None:
        """Name of the set that `root` is itself; None if `root` is no set, or holds one of the test sets."""
        if not self.is_set(self.root):
            return None
        if any(find_folder(self.sets_folder(), name, *self.aliases.get(name, ())) for name in self.test_sets):
            return None
        folder = self.root.resolve().name
        known = {alias.casefold(): name for name in self.counts for alias in (name, *self.aliases.get(name, ()))}
        return known.get(folder.casefold(), folder)

    def folder_of(self, name: str) -> Path | None:
        """The folder of a set: in `root` by one of its names, or `root` itself; None if there is none."""
        return find_folder(self.sets_folder(), name, *self.aliases.get(name, ())) or (
            self.root if name == self.own_set() else None
        )

    @property
    def published_counts(self) -> dict[str, int]:
        """Number of images of the chosen test sets, as published; absent sets count too."""
        own = self.own_set()
        names = self.test_sets if own is None else [own]
        return {name: self.counts[name] for name in names if name in self.counts}

    def val_pairs(self) -> dict[str, Pairs]:
        """Find the sets that validate.

        Raises:
            DataError: if one of them is absent.
        """
        return {name: self._required(name, "val_sets") for name in self.val_sets}

    def test_pairs(self) -> dict[str, Pairs]:
        """Find the test sets that are there, or the one that `root` is.

        Raises:
            DataError: if there is none, or one is absent of which no published size is known.
        """
        if own := self.own_set():
            return {own: self._required(own, "root")}
        found = {name: self._found(name) for name in self.test_sets if name in self.counts}
        found |= {name: self._required(name, "test_sets") for name in self.test_sets if name not in self.counts}
        self.absent_test_sets = [name for name in self.test_sets if found[name] is None]
        if len(self.absent_test_sets) == len(self.test_sets):
            folder = self.sets_folder()
            place = "" if folder == self.root else f" in {folder}"
            raise DataError(
                f"root ({self.root}) must hold a test set ({', '.join(self.test_sets)}){place}, got "
                f"{self._entries()}; download one, or choose others with test_sets"
            )
        if self.absent_test_sets:
            self._say(
                f"test sets absent from {self.sets_folder()}: {', '.join(self.absent_test_sets)}; "
                "the mean over sets is not the published one"
            )
        return {name: pairs for name in self.test_sets if (pairs := found[name]) is not None}

    def _required(self, name: str, argument: str) -> Pairs:
        pairs = self._found(name)
        if pairs is None:
            raise DataError(
                f"{argument} ({name}) must be in {self.sets_folder()}, got {self._entries()}; choose among these"
                + (", or give an empty list to train without validation" if argument == "val_sets" else "")
            )
        return pairs

    def _found(self, name: str) -> Pairs | None:
        pairs = self.find_set(name)
        if pairs is not None and name in self.counts and (message := shortfall(name, pairs, self.counts[name])):
            self._say(message)
        return pairs

    def _entries(self) -> str:
        folder = self.sets_folder()
        if not folder.is_dir():
            return "no such folder"
        return ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "an empty folder"


def join(parts: Mapping[str, Pairs], argument: str) -> Pairs:
    """Make one set of several.

    Args:
        parts: sets by name, at least one; names of images get their set's in front where there are several.
        argument: name of the option that lists the sets, for the error message.

    Returns:
        All pairs, in order.

    Raises:
        DataError: if some have inputs on disk and others not.
    """
    sets = list(parts.values())
    if len(sets) == 1:
        return sets[0]
    names = tuple(f"{name}-{image}" for name, pairs in parts.items() for image in pairs.names)
    inputs, targets = (_chain(getattr(pairs, kind) for pairs in sets) for kind in ("inputs", "targets"))
    made = [pairs for pairs in sets if isinstance(pairs, CleanImages)]
    if not made:
        return Pairs(inputs, targets, names)
    if len(made) < len(sets):
        lacking = ", ".join(name for name, pairs in parts.items() if isinstance(pairs, CleanImages))
        raise DataError(
            f"{argument} ({', '.join(parts)}) must all have inputs on disk or all have none, got none for {lacking}; "
            "add them, or train on fewer sets"
        )
    return CleanImages(inputs, targets, names, made[0].degradation, made[0].studio)


def _chain(parts: Iterable[tuple[Path, ...]]) -> tuple[Path, ...]:
    return tuple(path for part in parts for path in part)
