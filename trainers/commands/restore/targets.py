"""Which file each image of `lowrank restore` is restored into; folders are listed anew, never held as a whole."""

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.files.images import is_image, list_images
from trainers.commands.restore.shares import Share

Format = Literal["same", "png", "tif", "webp", "bmp", "jpg", "mp4", "mkv", "mov"]
"""Of results; `same` keeps that of each image. The last three are films, of clips."""

MOST_LISTED = 1000
"""Images that a table, a message and a returned list tell one by one."""

# What is restored is not compressed with losses again, unless that is asked for.
_LOSSY = (".jpg", ".jpeg")
# Names of a folder that are sorted together; of a folder of a million files they are not held at once.
_SORTED = 4096


class ImageTargets:
    """Images and their results, in pairs; each iteration lists the folders anew.

    Of each image three numbers of 64 bits are held while names are checked, and one afterwards, by which images that
    appear meanwhile are told from those that were found.

    Args:
        images: image files, and folders that are searched with their sub-folders.
        output: folder for the results.
        suffix: put between the name and the extension of each result.
        format: of the results; None: as each image, but PNG for JPEG.
        overwrite: whether results that exist are replaced.
        share: of the images that are this process's; others are checked, but not given.

    Attributes:
        suffixes: extensions of the results, in lower case.

    Raises:
        DataError: if a path is missing or no image, if two images would have one result, or a result would be a given
            image.
    """

    def __init__(
        self,
        images: Sequence[Path],
        output: Path,
        *,
        suffix: str = "",
        format: Format | None = None,
        overwrite: bool = False,
        share: Share | None = None,
    ) -> None:
        if output.exists() and not output.is_dir():
            raise DataError(f"output ({output}) must be a folder, got a file; give a folder for the results")
        if set(suffix) & {"/", "\\", "\0"}:
            raise DataError(
                f"suffix ({suffix}) must be a part of a file's name, got a separator; choose the folder by output"
            )
        self._images = images
        self._output = output
        self._suffix = suffix
        self._format = format
        self._share = share or Share()
        # Of images that are given several times, by a folder too, the first counts.
        self._first = {path.absolute(): place for place, path in reversed(list(enumerate(images)))}
        self._folders = [(place, path) for place, path in enumerate(images) if path.is_dir()]
        self.suffixes: set[str] = set()
        self._check(overwrite)

    def __iter__(self) -> Iterator[tuple[Path, Path]]:
        """Yield each image of the share with its result; images that are results of others are left out."""
        for source, target in self._pairs():
            if self._is_own(target) and _among(self._known, _number(source)):
                yield source, target

    def __len__(self) -> int:
        """Number of the images of the share when names were checked."""
        return self._count

    def shares_name(self, target: Path) -> bool:
        """Whether another result differs from this one by nothing but small and large letters."""
        return _among(self._alike, hash(str(target).casefold()))

    def _is_own(self, target: Path) -> bool:
        return self._share.takes(str(target.relative_to(self._output)))

    def _check(self, overwrite: bool) -> None:
        sources, results, names, places = array("q"), array("q"), array("q"), array("q")
        own = bytearray()
        resolve = _resolver()
        for source, target in self._pairs():
            sources.append(_number(source))
            results.append(_number(target))
            names.append(hash(str(target).casefold()))
            places.append(hash(resolve(target)))
            own.append(self._is_own(target))
            self.suffixes.add(target.suffix.lower())
        self._alike = _repeated(names)
        self._check_distinct(_repeated(places))
        found = np.frombuffer(sources, np.int64)
        victims = np.intersect1d(found, np.frombuffer(results, np.int64))
        # Results of a former run lie below the searched folder when `output` does: they are no images to restore.
        skipped = self._check_victims(victims, overwrite) if victims.size else victims
        self._known = np.setdiff1d(found, skipped)
        self._count = int((np.frombuffer(own, np.bool_) & ~np.isin(found, skipped)).sum())

    def _check_distinct(self, repeated: NDArray[np.int64]) -> None:
        """Refuse two images of one result."""
        owners: dict[Path, Path] = {}
        resolve = _resolver()
        for source, target in self._pairs() if repeated.size else ():
            place = resolve(target)
            if not _among(repeated, hash(place)):
                continue
            owner = owners.setdefault(place, source)
            if _resolved(owner) != _resolved(source):
                raise DataError(
                    f"images ({owner} and {source}) must have distinct results, got {target} twice; "
                    "restore them into different folders"
                )

    def _check_victims(self, victims: NDArray[np.int64], overwrite: bool) -> NDArray[np.int64]:
        """Refuse results that would replace an image; those of a former run are images no more."""
        given = {_number(path) for path in self._images if path.is_file()}
        results = array("q")
        for source, target in self._pairs():
            number = _number(target)
            if not _among(victims, number):
                continue
            if overwrite or number in given or identity(source) == identity(target):
                victim = next(image for image, _ in self._pairs() if _number(image) == number)
                raise DataError(
                    f"output ({self._output}) must not replace the image {victim}, got it as the result of {source}; "
                    "give another folder or suffix"
                )
            results.append(number)
        return np.unique(np.frombuffer(results, np.int64))

    def _pairs(self) -> Iterator[tuple[Path, Path]]:
        for source, relative in self._sources():
            name = f"{relative.stem}{self._suffix}{_extension(relative, self._format)}"
            yield source, self._output / relative.with_name(name)

    def _sources(self) -> Iterator[tuple[Path, Path]]:
        """Images with their names below `output`."""
        for place, path in enumerate(self._images):
            earlier = [folder for other, folder in self._folders if other < place]
            if path.is_dir():
                found: Iterator[tuple[Path, Path]] = ((source, source.relative_to(path)) for source in _search(path))
            elif not path.exists():
                raise DataError(
                    f"images ({path}) must be an existing image or folder, got nothing there; check the path"
                )
            elif not path.is_file():
                raise DataError(
                    f"images ({path}) must be an image or a folder, got a pipe or a device; give a regular file"
                )
            else:
                found = iter([(path, Path(path.name))])
            for source, relative in found:
                first = self._first.get(source.absolute(), place)
                if first >= place and not any(_finds(folder, source) for folder in earlier):
                    yield source, relative


def name_targets(
    images: list[Path],
    output: Path,
    *,
    suffix: str = "",
    format: Format | None = None,
    overwrite: bool = False,
    share: Share | None = None,
) -> ImageTargets:
    """Find the images and check the names of their results, before anything is read or loaded; see `ImageTargets`."""
    return ImageTargets(images, output, suffix=suffix, format=format, overwrite=overwrite, share=share)


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


def require_all(what: str, messages: Sequence[str], failed: int, tried: int) -> None:
    """End with one message if something could not be restored.

    Args:
        what: images or clips.
        messages: of those that could not, the first of them at least.
        failed: how many could not.
        tried: how many there were to restore.

    Raises:
        DataError: with all messages, if there are any.
    """
    if failed:
        others = ", the others were:\n" if failed < tried else ":\n"
        more = [f"and {failed - len(messages)} more"] if failed > len(messages) else []
        raise DataError(f"{what} ({failed} of {tried}) could not be restored{others}" + "\n".join([*messages, *more]))


def _number(path: Path) -> int:
    return hash(identity(path))


def _repeated(numbers: array) -> NDArray[np.int64]:
    found, counts = np.unique(np.frombuffer(numbers, np.int64), return_counts=True)
    return found[counts > 1]


def _among(numbers: NDArray[np.int64], number: int) -> bool:
    """Whether sorted numbers hold one."""
    place = int(np.searchsorted(numbers, number))
    return place < len(numbers) and int(numbers[place]) == number


def _resolver() -> Callable[[Path], Path]:
    """A function that resolves paths as `_resolved` does, but a folder only once for all its files."""
    last: list[Path] = [Path(), Path()]

    def resolve(path: Path) -> Path:
        if last[0] != path.parent:
            last[:] = path.parent, _resolved(path.parent)
        place = last[1] / path.name
        # False also of names that no file can have.
        return _resolved(place) if os.path.islink(place) else place  # noqa: PTH114

    return resolve


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # links in a circle
        return path.absolute()


def _extension(image: Path, format: Format | None) -> str:
    if format is None:
        return ".png" if image.suffix.lower() in _LOSSY else image.suffix
    return image.suffix if format == "same" else f".{format}"


def _search(folder: Path) -> Iterator[Path]:
    images = _walk(folder)
    first = next(images, None)
    if first is None:
        yield from list_images(folder, "images")  # its message names what is there instead
    else:
        yield first
        yield from images


def _walk(folder: Path) -> Iterator[Path]:
    """Images of a folder, then those of its sub-folders, without what is hidden; links to folders are not followed."""
    below: list[str] = []
    try:
        with os.scandir(folder) as entries:
            while some := sorted(islice(entries, _SORTED), key=lambda entry: entry.name):
                for entry in some:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        below.append(entry.name)
                    elif is_image(folder / entry.name):
                        yield folder / entry.name
    except PermissionError:
        return
    for name in sorted(below):
        yield from _walk(folder / name)


def _finds(folder: Path, image: Path) -> bool:
    """Whether a search of a folder finds an image."""
    root, place = folder.absolute(), image.absolute()
    if not place.is_relative_to(root):
        return False
    parts = place.relative_to(root).parts
    hidden = any(part.startswith(".") for part in parts)
    linked = any(root.joinpath(*parts[:count]).is_symlink() for count in range(1, len(parts)))
    return not hidden and not linked and is_image(place)
