"""The one exception for data on disk that cannot be used, and what collects several of its messages."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


class DataError(ValueError):
    """Says which file or folder cannot be used, which argument named it and what to do about it.

    Args:
        message: what to tell the user.
    """

    def __init__(self, message: str) -> None:
        # torch re-raises a dataloader worker's error with the worker's traceback, as text, before its message.
        super().__init__(message.rpartition("DataError: ")[2].strip())


@dataclass
class Faults:
    """What was found wrong with a layout.

    Attributes:
        errors: what cannot be used, a message each.
        shortfalls: sets that have not as many images as published.
    """

    errors: list[str] = field(default_factory=list)
    shortfalls: list[str] = field(default_factory=list)


_collected: ContextVar[Faults | None] = ContextVar("collected", default=None)


@contextmanager
def collect_faults() -> Iterator[Faults]:
    """Note what is wrong with folders and names instead of stopping at the first: the rest is looked at all the same.

    Yields:
        What is noted within.
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
        message: what to tell the user; may shorten a list of files.
        each: a message for each file, noted in place of `message`.

    Raises:
        DataError: if faults are not collected.
    """
    faults = _collected.get()
    if faults is None:
        raise DataError(message)
    faults.errors.extend(list(each) or [message])


def note_shortfall(message: str) -> bool:
    """Note that a set is incomplete, if faults are collected; whether they are."""
    faults = _collected.get()
    if faults is not None:
        faults.shortfalls.append(message)
    return faults is not None
