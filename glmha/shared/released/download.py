"""A file from an address: complete or absent, resumed where the server can, held to its size and digest.

torch's client (`torch.hub.download_url_to_file`) takes a file that broke off for a whole one and cannot resume, that of
huggingface_hub begins again without end where a server always breaks off. Hence this one, on Python's own client, which
follows the proxies of the environment.
"""

import contextlib
import hashlib
import http.client
import logging
import os
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import safetensors
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from glmha.shared.checkpoint_files import CheckpointError

ATTEMPTS = 3
"""Connections in a row that may break off."""
TIMEOUT_SECONDS = 30
"""After which a server that sends nothing is given up."""
LARGEST_BYTES = 16 * 2**30
"""The largest checkpoint that is fetched; the largest released one of these families has 0.2 GB."""
CHUNK = 2**20

_logger = logging.getLogger(__name__)


class _Interrupted(Exception):
    """A connection that broke off, of which the rest may be asked for."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows addresses of the web alone, and from https to https alone."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme != "https"):
            raise urllib.error.HTTPError(newurl, code, f"a redirection to {newurl}, which is not followed", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(
    address: str,
    target: Path,
    argument: str,
    *,
    size: int | None = None,
    sha256: str | None = None,
    largest: int = LARGEST_BYTES,
) -> str:
    """Download a file, which appears under its name only when it is whole.

    What has arrived of it stays beside it after an interruption, and the next call goes on there if the server can and
    the file is still the same to it (its ETag).

    Args:
        address: of http or https.
        target: file to write; its folder is made.
        argument: name of the option or argument that gave the address, for messages.
        size: bytes that it must have; None: as many as the server promises.
        sha256: digest that it must have; None: any.
        largest: bytes that it may have at most.

    Returns:
        Its SHA-256.

    Raises:
        CheckpointError: if the server cannot be reached, breaks off, or sends something else.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    tag = target.with_name(f"{target.name}.etag")
    given = f"{argument} ({address})"
    with _progress(target.name) as report:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _receive(address, partial, tag, given, largest, report)
                break
            except _Interrupted as error:
                arrived = partial.stat().st_size if partial.exists() else 0
                if attempt == ATTEMPTS:
                    raise CheckpointError(
                        f"{given} could not be downloaded whole, {arrived} bytes have arrived: {error}. Run this "
                        "again, or download it by other means and give the file's path"
                    ) from None
                _logger.warning("%s broke off after %d bytes: trying again", given, arrived)
    digest = digest_of(partial)
    problem = _problem(partial, size, sha256, digest)
    if problem:
        partial.unlink()
        tag.unlink(missing_ok=True)
        raise CheckpointError(
            f"{given} must be the address of a file, {problem}: open the address in a browser to see what it is"
        )
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(target)
    tag.unlink(missing_ok=True)
    return digest


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _problem(path: Path, size: int | None, sha256: str | None, digest: str) -> str:
    """What is wrong with a file that has arrived; empty if nothing is."""
    with path.open("rb") as file:
        head = file.read(64)
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "the server sent a web page"
    if size is not None and path.stat().st_size != size:
        return f"the server sent {path.stat().st_size} bytes where {size} are due"
    if sha256 is not None and digest != sha256:
        return f"the server sent other bytes than are known by this name (SHA-256 {digest}, due {sha256})"
    if not _is_whole(path, head):
        return "the server sent a part of the file and called it the whole"
    return ""


def _is_whole(path: Path, head: bytes) -> bool:
    """Whether an archive ends as archives do, a safetensors file where its header says; of others nothing is known."""
    if head.startswith(b"PK\x03\x04"):
        return zipfile.is_zipfile(path)
    if head[8:9] == b"{":
        try:
            with safetensors.safe_open(path, "np"):
                return True
        except safetensors.SafetensorError:
            return False
    return True


def _receive(address: str, partial: Path, tag: Path, given: str, largest: int, report: "_Report") -> None:
    """Append what is missing of a file.

    Raises:
        _Interrupted: if the connection breaks off.
        CheckpointError: if the server refuses.
    """
    known = tag.read_text(encoding="utf-8") if tag.exists() else ""
    offset = partial.stat().st_size if known and partial.exists() else 0
    headers = {"User-Agent": "lowrank-attention", "Accept-Encoding": "identity"}
    if offset:
        # Another file by now is sent from its beginning.
        headers |= {"Range": f"bytes={offset}-", "If-Range": known}
    opener = urllib.request.build_opener(_Redirects)
    try:
        with opener.open(urllib.request.Request(address, headers=headers), timeout=TIMEOUT_SECONDS) as response:
            if not _goes_on(response.status, response.headers, offset):
                offset = 0
            rest = _promised(response.headers)
            if offset + (rest or 0) > largest:
                raise CheckpointError(f"{given} must have at most {largest} bytes, got {offset + (rest or 0)}")
            _remember(tag, response.headers)
            with partial.open("ab" if offset else "wb") as file:
                _copy(response, file, offset, rest, largest, report)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            # Longer than the file is now: what has arrived is of no use.
            partial.unlink(missing_ok=True)
            raise _Interrupted("the server knows less of it than has arrived") from None
        if error.code >= 500:
            raise _Interrupted(f"the server answers {error.code} {error.reason}") from None
        raise CheckpointError(
            f"{given} cannot be downloaded, the server answers {error.code} {error.reason}: check the address"
        ) from None
    except (http.client.HTTPException, OSError, UnicodeError) as error:
        # URLError is an OSError, too; its reason says more.
        raise _Interrupted(str(getattr(error, "reason", error)) or type(error).__name__) from None


def _goes_on(status: int, headers: Message, offset: int) -> bool:
    return status == 206 and str(headers.get("Content-Range", "")).startswith(f"bytes {offset}-")


def _promised(headers: Message) -> int | None:
    length = headers.get("Content-Length")
    return int(length) if length is not None and length.isdigit() else None


def _remember(tag: Path, headers: Message) -> None:
    """Note by what the server tells this file from a later one; weak marks are of no use for that."""
    mark = headers.get("ETag") or ""
    if mark.startswith('"'):
        tag.write_text(mark, encoding="utf-8")
    else:
        tag.unlink(missing_ok=True)


def _copy(response: Any, file: IO[bytes], offset: int, rest: int | None, largest: int, report: "_Report") -> None:
    arrived = 0
    while chunk := response.read(CHUNK):
        file.write(chunk)
        arrived += len(chunk)
        if offset + arrived > largest:
            raise CheckpointError(f"the server must send at most {largest} bytes, got more")
        report(offset + arrived, None if rest is None else offset + rest)
    if rest is not None and arrived < rest:
        raise _Interrupted(f"the connection ended {rest - arrived} bytes before the promised end")


class _Report:
    """Shows on a terminal how much of a file has arrived."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=None)

    def __call__(self, arrived: int, total: int | None) -> None:
        self._progress.update(self._task, completed=arrived, total=total)


@contextlib.contextmanager
def _progress(name: str) -> Iterator[_Report]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield _Report(progress, name)
