"""Folders of one's own, recognised by the names that such folders usually have."""

from pathlib import Path
from typing import Literal

from datamodules.errors import DataError

PartName = Literal["train", "val", "test"]

_PARTS: dict[PartName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_INPUTS = (
    *("input", "inputs", "lq", "lr", "degraded", "low", "source"),
    *("noisy", "rainy", "rain", "hazy", "haze", "blur", "blurry", "blurred"),
)
_TARGETS = (
    *("target", "targets", "gt", "groundtruth", "hq", "hr", "high", "reference"),
    *("clean", "clear", "sharp", "norain", "dehazed"),
)


def find_part(root: Path, part: PartName) -> Path | None:
    """Find the folder of a part, such as `val` or `validation`; None if there is none.

    Args:
        root: where to look.
        part: which.

    Raises:
        DataError: if `root` is no folder, or has several for the part.
    """
    found = _named(root, _PARTS[part])
    if len(found) > 1:
        raise DataError(f"root ({root}) must hold one folder for {part}, got {_listed(found)}; keep or rename one")
    return found[0] if found else None


def find_halves(folder: Path, part: PartName) -> tuple[Path, Path]:
    """Find the folder of degraded images and that of clean ones, such as `noisy` and `clean`, or `LR` and `HR`.

    Upper and lower case, spaces, hyphens and underscores make no difference.

    Args:
        folder: where to look.
        part: which part of the data it is, for the error message.

    Returns:
        Folders of inputs and targets.

    Raises:
        DataError: if there is not exactly one of each.
    """
    inputs, targets = _named(folder, _INPUTS), _named(folder, _TARGETS)
    if len(inputs) != 1 or len(targets) != 1:
        inside = [path for path in sorted(folder.iterdir()) if path.is_dir()]
        found = f"for inputs {_listed(inputs)}, for targets {_listed(targets)}, of the folders {_listed(inside)}"
        raise DataError(
            f"root's {folder} must hold one folder of inputs ({', '.join(_INPUTS)}) and one of targets "
            f"({', '.join(_TARGETS)}), got {found}; give --data.{part}_input and --data.{part}_target"
        )
    return inputs[0], targets[0]


def _named(folder: Path, names: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"root ({folder}) must be an existing folder, got nothing there; check the path")
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and _plain(path.name) in names]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter not in " -_")


def _listed(folders: list[Path]) -> str:
    return ", ".join(path.name for path in folders[:8]) or "none"
