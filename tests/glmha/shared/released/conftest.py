"""A server on this machine that hands out files, well or badly."""

import dataclasses
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@dataclasses.dataclass
class Served:
    """What the server does with a request of any path.

    Attributes:
        content: of the file.
        kind: its media type.
        etag: mark of the file; empty: none is sent, and ranges are not either.
        status: what it answers in place of 200.
        promised: bytes that it promises; None: as many as it sends.
        cuts: bytes after which it breaks off, one number for each of the first requests.
        moves: path → address that it redirects to.
        address: of the server.
        asked: the ranges that were asked for, empty texts for whole files.
    """

    content: bytes = b""
    kind: str = "application/octet-stream"
    etag: str = '"first"'
    status: int = 200
    promised: int | None = None
    cuts: list[int] = dataclasses.field(default_factory=list)
    moves: dict[str, str] = dataclasses.field(default_factory=dict)
    address: str = ""
    asked: list[str] = dataclasses.field(default_factory=list)


@pytest.fixture
def served(monkeypatch) -> Iterator[Served]:
    state = Served()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            state.asked.append(self.headers.get("Range", ""))
            if self.path in state.moves:
                self.send_response(302)
                self.send_header("Location", state.moves[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = 0
            if state.etag and self.headers.get("If-Range") == state.etag:
                start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start > len(state.content):
                self.send_error(416)
                return
            body = state.content[start:]
            self.send_response(206 if start else state.status)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}")
            if state.etag:
                self.send_header("ETag", state.etag)
            self.send_header("Content-Type", state.kind)
            self.send_header("Content-Length", str(len(body) if state.promised is None else state.promised))
            self.end_headers()
            cut = state.cuts.pop(0) if state.cuts else len(body)
            self.wfile.write(body[:cut])
            if cut < len(body) or state.promised is not None:
                self.close_connection = True

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    # Requests are few; half a second of polling at the end would be longer than the test.
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    """An empty cache of torch's."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub" / "lowrank"
