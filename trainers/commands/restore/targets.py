"""Which file each image of `lowrank restore` is restored into."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from datamodules.errors import DataError
from datamodules.files.images import is_image, list_images

Format = Literal["same", "png", "tif", "webp", "bmp", "jpg", "mp4", "mkv", "mov"]
"""Of results; `same` keeps that of each image. The last three are films, of clips."""

# What is restored is not compressed with losses again, unless that is asked for.
_LOSSY = (".jpg", ".jpeg")


def name_targets(
    images: list[Path], output: Path, *, suffix: str = "", format: Format | None = None, overwrite: bool = False
) -> dict[Path, Path]:
    """Find the images and name their results, before anything is read or loaded.

    Args:
        images: image files, and folders that are searched with their sub-folders.
        output: folder for the results.
        suffix: put between the name and the extension of each result.
        format: of the results; None: as each image, but PNG for JPEG.
        overwrite: whether results that exist are replaced.

    Returns:
        The result of each image. Images of searched folders that are results of others are left out.

    Raises:
        DataError: if a path is missing or no image, if two images would have one result, or a result would be a given
            image.
    """
    if output.exists() and not output.is_dir():
        raise DataError(f"output ({output}) must be a folder, got a file; give a folder for the results")
    if set(suffix) & {"/", "\\", "\0"}:
        raise DataError(
            f"suffix ({suffix}) must be a part of a file's name, got a separator; choose the folder by output"
        )
    found, given = _find(images)
    targets = {
        source: output / relative.with_name(f"{relative.stem}{suffix}{_extension(relative, format)}")
        for source, relative in found.items()
    }
    owners: dict[Path, Path] = {}
    for source, target in targets.items():
        owner = owners.setdefault(_resolved(target), source)
        if _resolved(owner) != _resolved(source):
            raise DataError(
                f"images ({owner} and {source}) must have distinct results, got {target} twice; "
                "restore them into different folders"
            )
    # Links and file systems that know no case give one file several names.
    by_file = {identity(source): source for source in targets}
    results = set()
    for source, target in targets.items():
        victim = by_file.get(identity(target))
        if victim is None:
            continue
        if overwrite or victim in given or identity(source) == identity(target):
            raise DataError(
                f"output ({output}) must not replace the image {victim}, got it as the result of {source}; "
                "give another folder or suffix"
            )
        results.add(victim)
    # Results of a former run lie below the searched folder when `output` does: they are no images to restore.
    return {source: target for source, target in targets.items() if source not in results}


def identity(path: Path) -> object:
    """What two names of one file share; the path itself if there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return path
    # Some file systems number no files.
    return (status.st_dev, status.st_ino) if status.st_ino else _resolved(path)


def check_name(target: Path) -> bool:
    """Check that a result can be written under its name; return whether one is there already.

    An empty file is none: a full disk leaves such files behind.

    Raises:
        DataError: if something else is there, or no file can have that name.
    """
    try:
        target.lstat()
        if target.exists() and not target.is_file():
            raise DataError(f"result ({target}) must be a file, got a folder, a pipe or a device; remove it")
        return target.is_file() and target.stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DataError(f"result ({target}) must be a possible name, got: {error.strerror}; choose another") from error


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # links in a circle
        return path.absolute()


def _extension(image: Path, format: Format | None) -> str:
    if format is None:
        return ".png" if image.suffix.lower() in _LOSSY else image.suffix
    return image.suffix if format == "same" else f".{format}"


def _find(images: list[Path]) -> tuple[dict[Path, Path], set[Path]]:
    """Images with their names below `output`, and which of them were given themselves."""
    found: dict[Path, Path] = {}
    given: set[Path] = set()
    seen: set[Path] = set()
    for path in images:
        if path.is_dir():
            sources = [(source, source.relative_to(path)) for source in _search(path)]
        elif not path.exists():
            raise DataError(f"images ({path}) must be an existing image or folder, got nothing there; check the path")
        elif not path.is_file():
            raise DataError(
                f"images ({path}) must be an image or a folder, got a pipe or a device; give a regular file"
            )
        else:
            sources = [(path, Path(path.name))]
            given.add(path)
        for source, relative in sources:
            if source.absolute() not in seen:
                seen.add(source.absolute())
                found[source] = relative
    return found, given


def _search(folder: Path) -> list[Path]:
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if is_image(path) and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return found or list_images(folder, "images")  # its message names what is there instead


def require_all(what: str, failures: Mapping[Path, str], tried: int) -> None:
    """End with one message if something could not be restored.

    Args:
        what: images or clips.
        failures: message of each that could not.
        tried: how many there were to restore.

    Raises:
        DataError: with all messages, if there are any.
    """
    if failures:
        others = ", the others were:\n" if len(failures) < tried else ":\n"
        raise DataError(
            f"{what} ({len(failures)} of {tried}) could not be restored{others}" + "\n".join(failures.values())
        )
