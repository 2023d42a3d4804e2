"""Clips of a folder, and the degraded and clean clips of two folders matched by name."""

from collections.abc import Iterable
from pathlib import Path

from datamodules.clips.films import is_film
from datamodules.errors import DataError, refuse
from datamodules.files.images import has_images
from datamodules.pairs.matching import Pairs, listed


def list_clips(folder: str | Path, argument: str = "folder") -> list[Path]:
    """List the clips of a folder: its films, and its sub-folders that hold frames, sorted by name.

    Args:
        folder: an existing folder.
        argument: name of the option that gives it, for messages.

    Returns:
        At least one path.

    Raises:
        DataError: if the folder is missing or holds no clip.
    """
    folder = Path(folder)
    if not folder.is_dir():
        refuse(f"{argument} ({folder}) must be an existing folder of clips, got nothing there; check the path")
        return []
    clips = [path for path in sorted(folder.iterdir()) if _is_listed(path)]
    if not clips:
        refuse(
            f"{argument} ({folder}) must hold clips (folders of frames, or films), got none; point it at the folder "
            "that the clips are in"
        )
    return clips


def pair_clips(
    inputs: str | Path, targets: str | Path, *, input_argument: str = "inputs", target_argument: str = "targets"
) -> Pairs:
    """Match the clips of two folders by their names; those of films are without suffix.

    Args:
        inputs: folder of degraded clips.
        targets: folder of clean clips.
        input_argument: name of the option that gives the first folder, for messages.
        target_argument: name of the option that gives the second.

    Returns:
        Pairs whose files are clips, sorted by name.

    Raises:
        DataError: if a folder is missing or empty, or a clip has no counterpart.
    """
    degraded, clean = (
        _by_name(list_clips(folder, argument), argument)
        for folder, argument in ((inputs, input_argument), (targets, target_argument))
    )
    alone = [*(degraded[name] for name in degraded.keys() - clean), *(clean[name] for name in clean.keys() - degraded)]
    if alone:
        refuse(
            f"{input_argument} ({inputs}) must match {target_argument} ({targets}) clip by clip, got {len(degraded)} "
            f"and {len(clean)}, {len(alone)} without counterpart: {listed(alone)}; add the missing clips or remove "
            "these",
            [
                f"clip {path} must have a counterpart, got none; add the missing clip or remove this one"
                for path in sorted(alone)
            ],
        )
    names = sorted(degraded.keys() & clean.keys())
    return Pairs(tuple(degraded[name] for name in names), tuple(clean[name] for name in names), tuple(names))


def name_of(clip: Path) -> str:
    """Name of a clip: of a film without its suffix."""
    return clip.stem if is_film(clip) else clip.name


def _is_listed(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    # An empty folder is a clip without frames: reading it names it.
    return is_film(path) if path.is_file() else path.is_dir() and (has_images(path) or not any(path.iterdir()))


def _by_name(clips: Iterable[Path], argument: str) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for clip in clips:
        if name_of(clip) in named:
            raise DataError(
                f"{argument} ({clip.parent}) must name each clip once, got {named[name_of(clip)].name} and "
                f"{clip.name}; remove one of them"
            )
        named[name_of(clip)] = clip
    return named
