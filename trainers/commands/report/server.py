"""A small server of reports: to this machine alone, of one folder, each page made anew when its runs have changed."""

import hashlib
import re
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from trainers.commands.report.sources import Sources, find_sources
from trainers.errors import explain

ADDRESS = "127.0.0.1"
_RUN = re.compile(r"/run/([0-9]{1,6})")
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}

MakePage = Callable[[Sources, int | None], str]
"""Makes the page of a run by its number, or of all runs for None."""


class ReportServer(ThreadingHTTPServer):
    """Serves a folder's reports on the loopback.

    A request names no file: it asks for the page of all runs, of a run by its number in the list, or for the state of
    the folder. What is named by another host's page in a browser is refused by the `Host` of the request.

    Args:
        folder: whose runs are shown.
        port: 0 chooses a free one.
        make_page: makes a page.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int, make_page: MakePage) -> None:
        self.folder = folder
        self._make_page = make_page
        self._pages: dict[int | None, tuple[str, bytes]] = {}
        # Pages take seconds, and two of them no less at the same time.
        self._making = threading.Lock()
        super().__init__((ADDRESS, port), _Handler)

    @property
    def address(self) -> str:
        """Where the pages are."""
        return f"http://{ADDRESS}:{self.server_port}/"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names under which this server is asked, as requests state them."""
        return tuple(f"{name}:{self.server_port}" for name in (ADDRESS, "localhost"))

    def page(self, run: int | None) -> bytes | None:
        """Return a page, made anew if something has changed since it was made; None if there is no such run."""
        with self._making:
            sources = find_sources((self.folder,))
            if run is not None and run >= len(sources.runs):
                return None
            state = _state(sources)
            kept = self._pages.get(run)
            if kept is None or kept[0] != state:
                kept = state, self._make_page(sources, run).encode()
                self._pages[run] = kept
            return kept[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over connections that browsers close before they have the whole page."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def state(self) -> bytes:
        """Return a word that changes when a run or a result does."""
        return _state(find_sources((self.folder,))).encode()


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer
    # Seconds; a connection on which nothing is asked is closed.
    timeout = 30
    # Python's version is nobody's business.
    server_version, sys_version = "lowrank", ""

    def do_GET(self) -> None:
        """Answer with a page, or with the folder's state."""
        self._answer(with_content=True)

    def do_HEAD(self) -> None:
        """Answer as to GET, without the content."""
        self._answer(with_content=False)

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing: every few seconds the page asks whether something has changed."""

    def _answer(self, *, with_content: bool) -> None:
        status, kind, content = self._content()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if with_content:
            self.wfile.write(content)

    def _content(self) -> tuple[HTTPStatus, str, bytes]:
        if self.headers.get("Host") not in self.server.hosts:
            # A page of another host, whose name was made to mean this machine, must not read runs.
            return HTTPStatus.FORBIDDEN, "text/plain", b"ask for 127.0.0.1 or localhost\n"
        try:
            if self.path == "/state":
                return HTTPStatus.OK, "text/plain", self.server.state()
            run = _RUN.fullmatch(self.path)
            page = self.server.page(int(run[1]) if run else None) if run or self.path == "/" else None
        except Exception as error:
            return HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", f"{explain(error) or repr(error)}\n".encode()
        if page is None:
            return HTTPStatus.NOT_FOUND, "text/plain", b"there is no such page\n"
        return HTTPStatus.OK, "text/html", page


def _state(sources: Sources) -> str:
    """A digest of names, sizes and times of the files that pages are made of."""
    digest = hashlib.sha256()
    files = {file for run in sources.runs for file in run.folder.iterdir() if file.is_file()}
    for file in sorted({*files, *sources.results}):
        try:
            status = file.stat()
        except OSError:
            # It was removed since it was listed.
            continue
        digest.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()
