"""The one exception for data on disk that cannot be used, and a collector of several of its messages."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


class DataError(ValueError):
    """Reports which file or folder cannot be used, which argument named it and what to do about it.

    Args:
        message: text for the user.

    Examples:
        >>> from datamodules import DataError
        >>> from datamodules.files import list_images
        >>> try:
        ...     list_images("gone", "root")
        ... except DataError as error:
        ...     print(error)
        root (gone) must be an existing folder of images, got nothing there; check the path
    """

    def __init__(self, message: str) -> None:
        # torch re-raises a dataloader worker's error with the worker's traceback, as text, before its message.
        super().__init__(message.rpartition("DataError: ")[2].strip())


@dataclass
class Faults:
    """Faults of a layout.

    Attributes:
        errors: messages, one for each file or folder that cannot be used.
        shortfalls: sets that have not as many images as published.
    """

    errors: list[str] = field(default_factory=list)
    shortfalls: list[str] = field(default_factory=list)


_collected: ContextVar[Faults | None] = ContextVar("collected", default=None)


@contextmanager
def collect_faults() -> Iterator[Faults]:
    """Note all faults of folders and names, instead of stopping at the first.

    Yields:
        The faults that are noted within.
    """
    faults = Faults()
    token = _collected.set(faults)
    try:
        yield faults
    finally:
        _collected.reset(token)


def refuse(message: str, each: Iterable[str] = ()) -> None:
    """Raise a `DataError`, or within `collect_faults` note it and return, so that the caller goes on with what is left.

    Args:
        message: text for the user; may shorten a list of files.
        each: a message for each file, noted in place of `message`.

    Raises:
        DataError: if faults are not collected.
    """
    faults = _collected.get()
    if faults is None:
        raise DataError(message)
    faults.errors.extend(list(each) or [message])


def note_shortfall(message: str) -> bool:
    """Note that a set is incomplete, if faults are collected; return whether they are."""
    faults = _collected.get()
    if faults is not None:
        faults.shortfalls.append(message)
    return faults is not None
