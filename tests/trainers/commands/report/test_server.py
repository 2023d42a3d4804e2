"""The server: pages of the folder alone, for this machine alone, made anew when something has changed."""

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.trainers.commands.report.folders import write_evaluation, write_run
from trainers.commands.report.command import run_report
from trainers.commands.report.server import ReportServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ReportServer]:
    """A server of two runs, whose pages tell the run and how many pages were made before."""
    for index in range(2):
        write_run(tmp_path / f"logs/version_{index}")
    (tmp_path / "secret.html").write_text("secret")
    made: list[int | None] = []

    def make_page(sources: object, run: int | None) -> str:
        made.append(run)
        return f"{run} {len(made)}"

    with ReportServer(tmp_path / "logs", 0, make_page) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def ask(server: ReportServer) -> Callable[..., tuple[int, str]]:
    def ask(path: str, *, method: str = "GET", host: str | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
        connection.endheaders()
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    return ask


def test_pages_are_made_once_until_something_changes(server, ask, tmp_path):
    assert server.server_address[0] == "127.0.0.1"
    assert ask("/") == (200, "None 1")
    assert ask("/") == (200, "None 1")
    assert ask("/run/1") == (200, "1 2")
    before = ask("/state")
    assert before == ask("/state")
    write_evaluation(tmp_path / "logs/test")
    assert ask("/state") != before
    assert ask("/") == (200, "None 3")
    assert ask("/", method="HEAD") == (200, "")


def test_a_browser_that_goes_away_before_it_has_the_page_leaves_no_traceback(server, ask, capfd):
    server._make_page = lambda *_: "x" * 20_000_000
    with socket.create_connection(server.server_address) as connection:
        connection.sendall(f"GET / HTTP/1.0\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
        connection.recv(1000)
        # Closed at once, whatever is on its way.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    while any("process_request_thread" in thread.name for thread in threading.enumerate()):
        time.sleep(0.01)
    assert ask("/state")[0] == 200
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "path",
    [
        *("/../secret.html", "/%2e%2e/secret.html", "/logs/version_0/run.json", "//etc/passwd", "/run/2", "/run/-1"),
        *("/run/0/../../secret.html", "/run/0?x", "/?../secret.html", "/run/99999999999999", "secret.html"),
    ],
)
def test_nothing_else_is_served(ask, path):
    status, text = ask(path)
    assert status == 404
    assert "secret" not in text


@pytest.mark.parametrize("host", ["example.org", "example.org:80", "127.0.0.1", "localhost:1"])
def test_a_host_of_another_name_is_refused(ask, host):
    assert ask("/", host=host)[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(ask, method):
    assert ask("/", method=method)[0] == 501


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"serve": Path("nowhere")}, r"serve \(nowhere\) must be an existing folder"),
        ({"serve": Path(), "paths": [Path("a")]}, r"paths \(a\) must be left out"),
        ({"serve": Path(), "output": Path("a.html")}, r"output \(a.html\) must be left out"),
        ({"serve": Path(), "port": 70000}, r"port \(70000\) must be from 0"),
        ({"port": 1}, r"port \(1\) must be given with serve"),
    ],
)
def test_options_that_would_do_nothing_are_refused(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_report(**options)


def test_a_taken_port_is_named(server, tmp_path):
    with pytest.raises(ValueError, match="must be free"):
        run_report(serve=tmp_path / "logs", port=server.server_port)
