"""Files that are complete or absent."""

import hashlib
import os
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
    # The rest of a name that is nearly as long as file systems allow would not fit.
    temporary = path.with_name(f".{_shortened(path.name)}.{os.getpid()}.tmp")
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


def _shortened(name: str) -> str:
    """A name of at most 100 bytes that no other file of the folder is likely to share."""
    encoded = os.fsencode(name)
    if len(encoded) <= 100:
        return name
    return f"{hashlib.sha256(encoded).hexdigest()[:32]}{Path(name).suffix[:20]}"
