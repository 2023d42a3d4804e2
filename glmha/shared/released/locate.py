"""From what a user calls a checkpoint to a file on this machine: a path, a released name, an address."""

import difflib
import hashlib
import logging
import os
import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import filelock
import torch

from glmha.shared.checkpoint_files import CheckpointError, require_file
from glmha.shared.released import hub
from glmha.shared.released.download import digest_of, fetch
from glmha.shared.released.table import Released, released

_logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return the folder of downloaded checkpoints: `lowrank` in torch's (`TORCH_HOME`, else ~/.cache/torch)."""
    return Path(torch.hub.get_dir()) / "lowrank"


def locate(source: str | Path, argument: str = "pretrained") -> Path:
    """Find the file of a checkpoint, and download it if it is not on this machine yet.

    Args:
        source: path of a file; or, as text, a name of `lowrank models`, an address of http or https, or
            hf://OWNER/NAME[@REVISION][/FILE] of a model hub. A file comes before a name.
        argument: name of the option or argument that gave it, for messages.

    Returns:
        Path of a file that exists. Downloads are kept in `cache_folder`; HF_HUB_OFFLINE=1 forbids them.

    Raises:
        CheckpointError: if there is no such file, name or address, or the download fails.
    """
    if isinstance(source, Path) or Path(source).is_file():
        require_file(source, argument)
        return Path(source)
    if source in released():
        return _released(released()[source], argument)
    if source.startswith(hub.SCHEME):
        return hub.fetch(source, argument, offline=_offline())
    if re.match(r"https?://", source):
        return _addressed(source, argument)
    if re.fullmatch(r"[\w-]+", source):
        near = difflib.get_close_matches(source, released(), n=1)
        raise CheckpointError(
            f"{argument} ({source}) must be a checkpoint file or a name of `lowrank models`"
            + (f"; did you mean {near[0]}?" if near else ", got neither")
        )
    require_file(source, argument)
    raise AssertionError(f"{source} appeared just now")


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def cached(entry: Released) -> Path | None:
    """Return the file of a released checkpoint on this machine; None if there is none yet."""
    target = place(entry)
    return target if target.is_file() else None


def place(entry: Released) -> Path:
    """Return where the file of a released checkpoint is kept."""
    return cache_folder() / f"{entry.name}{entry.suffix}"


def _released(entry: Released, argument: str) -> Path:
    target = place(entry)
    given = f"{argument} ({entry.name})"
    noted = _noted(target)
    if target.is_file() and noted.is_file():
        # Before the lock, which needs a folder that can be written.
        return target
    with _lock(target):
        if not target.is_file() and entry.address is None:
            raise CheckpointError(
                f"{given} must be downloaded by a person, because the drive asks questions: open {entry.page}, "
                f"download {entry.file}, and put it at {target} or give its path"
            )
        if not target.is_file():
            _refuse_offline(given, target)
            _logger.warning("%s: downloading %s (licence: %s)", entry.name, entry.address, entry.licence)
            due = entry.sha256 or (noted.read_text(encoding="utf-8") if noted.is_file() else None)
            digest = fetch(str(entry.address), target, argument, size=entry.size, sha256=due)
        else:
            digest = digest_of(target)
        if entry.sha256 not in (None, digest):
            raise CheckpointError(
                f"{given} must have the SHA-256 {entry.sha256}, got {digest} in {target}: remove that file"
            )
        if not entry.commercial:
            _logger.warning(
                "%s: its licence, %s, forbids commercial use (%s)", entry.name, entry.licence, entry.upstream
            )
        noted.write_text(digest, encoding="utf-8")
    return target


def _addressed(address: str, argument: str) -> Path:
    try:
        name = PurePosixPath(unquote(urlsplit(address).path)).name or "checkpoint"
    except ValueError as error:
        raise CheckpointError(f"{argument} ({address}) must be an address: {error}") from None
    # Two addresses may end in one name.
    folder = cache_folder() / hashlib.sha256(address.encode()).hexdigest()[:16]
    target = folder / re.sub(r"[^\w.+-]", "_", name)[-100:]
    noted = _noted(target)
    if target.is_file() and noted.is_file():
        return target
    _refuse_offline(f"{argument} ({address})", target)
    with _lock(target):
        if not target.is_file():
            due = noted.read_text(encoding="utf-8") if noted.is_file() else None
            noted.write_text(fetch(address, target, argument, sha256=due), encoding="utf-8")
    return target


def _noted(target: Path) -> Path:
    """The file with the digest that the first download had; it stays where the weights are removed."""
    return target.with_name(f"{target.name}.sha256")


def _lock(target: Path) -> filelock.BaseFileLock:
    """Let the processes of a run, which all ask for the same weights, download them once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(target.with_name(f"{target.name}.lock"))


def _refuse_offline(given: str, target: Path) -> None:
    if _offline():
        raise CheckpointError(
            f"{given} must be in the cache where HF_HUB_OFFLINE forbids downloads: put the file at {target}, or "
            "unset it"
        )
