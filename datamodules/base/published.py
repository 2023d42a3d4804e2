"""Published data sets on disk: where they are, and whether they are whole."""

import json
from pathlib import Path
from typing import Any

from datamodules.errors import DataError, note_shortfall
from datamodules.pairs.matching import Pairs

RECORD = "prepared.json"
"""The file that `lowrank prepare` leaves in a folder that it has finished: of which images it was made, and how."""


def find_data_set(root: str | Path, names: tuple[str, ...]) -> Path:
    """Find the folder of a data set, which holds `train` or `test` or both.

    Args:
        root: that folder, or the one that it is in.
        names: what the data set's folder may be called.

    Returns:
        The folder of the data set.

    Raises:
        DataError: if neither `root` nor a folder of that name in it holds `train` or `test`.
    """
    root = Path(root)
    candidates = [*(root / name for name in names), root]
    for folder in candidates:
        if (folder / "train").is_dir() or (folder / "test").is_dir():
            return folder
    found = "no such folder"
    if root.is_dir():
        found = "a folder with " + (", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing in it")
    raise DataError(
        f"root ({root}) must be or hold the folder {' or '.join(names)} with train or test inside, got {found}; "
        "download the data set, or check the path"
    )


def find_folder(root: Path, *names: str) -> Path | None:
    """Find a folder in `root` by one of several names, in upper or lower case; links count.

    Args:
        root: where to look; need not exist.
        names: what the folder may be called, the best name first.

    Returns:
        The folder; None if there is none.
    """
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    for name in names:
        for folder in folders:
            if folder.name.casefold() == name.casefold():
                return folder
    return None


def read_prepared(path: Path) -> dict[str, Any]:
    """Read a file of `lowrank prepare` about what it makes.

    Raises:
        DataError: if it holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"file ({path}) must be as `lowrank prepare` left it, got {error}: prepare anew") from None
    if not isinstance(content, dict):
        raise DataError(f"file ({path}) must be as `lowrank prepare` left it, got no JSON object: prepare anew")
    return content


def shortfall(name: str, pairs: Pairs, published: int) -> str | None:
    """Describe a set that has not as many pairs as published; None if it has, or if shortfalls are being collected.

    Crops that `lowrank prepare` cut count as the images that they are of.
    """
    record = _record(pairs)
    count = len(pairs) if record is None else _images(record)
    return shortfall_of(name, count, published)


def shortfall_of(name: str, count: int, published: int, unit: str = "pairs") -> str | None:
    """Describe a set of `count` images or scenes, as `unit` names them, that has not as many as published; or None."""
    if count == published:
        return None
    message = f"{name} has {count} {unit}, {published} as published: results are not comparable with published ones"
    # `collect_faults` keeps it in a separate list.
    return None if note_shortfall(message) else message


def counted(name: str, pairs: Pairs, published: int) -> Pairs:
    """Note within `collect_faults` that a set has not as many pairs as published; hand the pairs on."""
    shortfall(name, pairs, published)
    return pairs


def _images(record: Path) -> int:
    count = read_prepared(record).get("images")
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise DataError(f"file ({record}) must hold the number of images, got {count}: prepare anew")
    return count


def _record(pairs: Pairs) -> Path | None:
    """The record of prepared crops, in a folder around them."""
    around = pairs.targets[0].parents[:5] if pairs.targets else ()
    return next((folder / RECORD for folder in around if (folder / RECORD).is_file()), None)
