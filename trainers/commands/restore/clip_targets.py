"""Which film or folder of frames each clip of `lowrank restore` is restored into."""

from pathlib import Path

from datamodules.clips.films import FILM_SUFFIXES, is_film
from datamodules.clips.matching import name_of
from datamodules.errors import DataError
from datamodules.files.images import has_images
from trainers.commands.restore.targets import Format, check_name, identity

_OF_FILMS = tuple(suffix.removeprefix(".") for suffix in FILM_SUFFIXES)


def holds_films(paths: list[Path]) -> bool:
    """Whether films are among some paths, or lie in one of the folders, which holds no images."""
    return any(
        is_film(path)
        if path.is_file()
        else path.is_dir() and any(map(is_film, path.iterdir())) and not has_images(path)
        for path in paths
    )


def name_clip_targets(
    clips: list[Path], output: Path, *, suffix: str = "", format: Format | None = None
) -> dict[Path, Path]:
    """Find the clips and name their results, before anything is read.

    Args:
        clips: films, folders of frames, and folders that those are in.
        output: folder for the results.
        suffix: put behind the name of each result.
        format: of the results: png, a folder of frames; mp4, mkv or mov, a film; None or same: as each clip.

    Returns:
        The result of each clip.

    Raises:
        DataError: if a path is missing or no clip, two clips would have one result, a result would be a given clip, or
            the format is none of clips.
    """
    if output.exists() and not output.is_dir():
        raise DataError(f"output ({output}) must be a folder, got a file; give a folder for the results")
    if format not in (None, "same", "png", *_OF_FILMS):
        raise DataError(f"format ({format}) must be png (a folder of frames), {', '.join(_OF_FILMS)} for clips")
    found = [clip for path in clips for clip in _find(path)]
    given = {identity(clip) for clip in found}
    targets: dict[Path, Path] = {}
    for clip in found:
        target = output / f"{name_of(clip)}{suffix}{_ending(clip, format)}"
        if identity(target) in given:
            raise DataError(
                f"output ({output}) must not replace the clip {clip}, got it as a result; give another folder or suffix"
            )
        if target in targets.values():
            raise DataError(
                f"clips must have distinct results, got {target} twice; restore them into different folders"
            )
        targets[clip] = target
    return targets


def check_film_options(targets: dict[Path, Path], *, rate: float | None, exif: bool | None, **others: object) -> None:
    """Refuse options that no result could show.

    Args:
        targets: the result of each clip.
        rate: frames per second, of films that are made of frames.
        exif: of images.
        **others: options of films; None: not given.

    Raises:
        ValueError: if one is given in vain.
    """
    films = [source for source, target in targets.items() if is_film(target)]
    if exif:
        raise ValueError(f"exif ({exif}) must be false for clips; it is an option of images")
    for name, value in others.items():
        if value is not None and not films:
            raise ValueError(f"{name} ({value}) must be left out where no film is written; add --format mp4")
    if rate is not None and all(map(is_film, films)):
        raise ValueError(f"rate ({rate}) must be left out where no film is made of frames; films keep their rate")


def check_clip_name(target: Path) -> bool:
    """Check that a result can be written under its name; return whether one is there already.

    Raises:
        DataError: if something else is there.
    """
    if is_film(target):
        return check_name(target)
    if target.exists() and not target.is_dir():
        raise DataError(f"result ({target}) must be a folder of frames, got a file; remove it")
    return has_images(target)


def _ending(clip: Path, format: Format | None) -> str:
    if format in (None, "same"):
        return clip.suffix if is_film(clip) else ""
    return "" if format == "png" else f".{format}"


def _find(path: Path) -> list[Path]:
    if path.is_file() and is_film(path):
        return [path]
    if path.is_dir() and has_images(path):
        return [path]
    inside = [] if not path.is_dir() else [each for each in sorted(path.iterdir()) if not each.name.startswith(".")]
    clips = [each for each in inside if is_film(each) or has_images(each)]
    if not clips:
        found = "nothing there" if not path.exists() else "neither in it" if path.is_dir() else "another file"
        raise DataError(f"images ({path}) must be a film, a folder of frames or hold such, got {found}; check the path")
    return clips
