"""A degraded image's clean one, found by name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.errors import refuse
from datamodules.files.images import list_images

# Rain100H and Rain100L were released as rain-001.png beside norain-001.png.
_KNOWN_PREFIXES = ("norain-", "rain-")


@dataclass(frozen=True)
class Pairs:
    """Files of one set, matched.

    Attributes:
        inputs: degraded images.
        targets: the clean image of each.
        names: a unique name for each pair, fit for a file name.
    """

    inputs: tuple[Path, ...]
    targets: tuple[Path, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.inputs)


def pair_folders(
    inputs: str | Path,
    targets: str | Path,
    *,
    scale: int = 1,
    input_argument: str = "inputs",
    target_argument: str = "targets",
) -> Pairs:
    """Match the images of two folders by their names without suffix.

    Names need not be equal where a data set's convention is known: `rain-`, `norain-` in front (Rain100), and `x2`,
    `x3`, … behind an input's name for a target of that scale. Order alone never makes a pair.

    Args:
        inputs: folder of degraded images.
        targets: folder of clean images.
        scale: size of a target relative to its input.
        input_argument: what the user calls the first folder, for error messages.
        target_argument: what the user calls the second folder.

    Returns:
        The pairs, sorted by the input's file name.

    Raises:
        DataError: if a folder is missing or empty, or an image has no counterpart or several.
    """
    degraded = _by_key(list_images(inputs, input_argument), input_argument, f"x{scale}" if scale > 1 else "")
    clean = _by_key(list_images(targets, target_argument), target_argument, "")
    alone = [degraded.pop(key) for key in sorted(degraded.keys() - clean.keys())]
    unasked = [clean[key] for key in sorted(clean.keys() - degraded.keys())]
    if alone or unasked:
        refuse(
            f"{input_argument} ({inputs}) must match {target_argument} ({targets}) name by name, got "
            f"{len(degraded) + len(alone)} and {len(clean)} images, {len(alone + unasked)} without counterpart: "
            f"{listed(alone + unasked)}; add the missing files or remove these",
            [
                f"image {path} must have a counterpart in {folder}, got none; add the missing file or remove this one"
                for paths, folder in ((alone, targets), (unasked, inputs))
                for path in paths
            ],
        )
    files = tuple(degraded.values())
    return Pairs(files, tuple(clean[key] for key in degraded), tuple(path.stem for path in files))


def _by_key(files: Iterable[Path], argument: str, suffix: str) -> dict[str, Path]:
    keyed: dict[str, Path] = {}
    for path in files:
        key = path.stem.removesuffix(suffix)
        for prefix in _KNOWN_PREFIXES:
            key = key.removeprefix(prefix)
        if key in keyed:
            refuse(
                f"{argument} ({path.parent}) must name each image once, got {keyed[key].name} and {path.name}; "
                "remove one of them"
            )
        keyed[key] = path
    return keyed


def listed(items: Sequence[object]) -> str:
    """The first five items, sorted, for a message."""
    shown = ", ".join(str(item) for item in sorted(map(str, items))[:5])
    return shown + (", …" if len(items) > 5 else "")
