"""Files that are complete or absent."""

import functools
import hashlib
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only when it is complete and on the disk.

    Args:
        path: final name; its folder is made if need be, a file of that name is replaced.

    Yields:
        A binary file in the same folder, renamed on leaving, removed if the body raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    # The rest of a name that is nearly as long as file systems allow would not fit.
    temporary = path.with_name(f".{_shortened(path.name)}.{_machine()}-{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        # The new name is in the folder's own data, which has to reach the disk too.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@functools.lru_cache(maxsize=1024)
def remove_abandoned(folder: Path) -> None:
    """Remove what killed processes of this machine left half-written in a folder; once, the first time.

    Args:
        folder: where files are to be written.
    """
    with os.scandir(folder) as entries:
        left = [entry.name for entry in entries if entry.name.endswith(".tmp")]
    for name in left:
        writer = re.fullmatch(rf"\..+\.{re.escape(_machine())}-(\d+)\.tmp", name, re.DOTALL)
        if writer and not _is_alive(int(writer[1])):
            (folder / name).unlink(missing_ok=True)


def _machine() -> str:
    """The machine's name as a part of a file's name: on a shared disk, others have processes of the same numbers."""
    return re.sub(r"[^\w-]", "_", socket.gethostname())[:60]


def _is_alive(process: int) -> bool:
    if os.name != "posix":
        # There a signal of no number ends the process.
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _shortened(name: str) -> str:
    """A name of at most 100 bytes that no other file of the folder is likely to share."""
    encoded = os.fsencode(name)
    if len(encoded) <= 100:
        return name
    return f"{hashlib.sha256(encoded).hexdigest()[:32]}{Path(name).suffix[:20]}"
