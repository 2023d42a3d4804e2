"""hf:// addresses lead to a model hub's files, by huggingface_hub's own client."""

import http.server
import threading

import pytest

from glmha.shared.checkpoint_files import CheckpointError
from glmha.shared.released.locate import locate

constants = pytest.importorskip("huggingface_hub.constants")

FILES = {"/owner/net/resolve/main/model.safetensors": b"main", "/owner/net/resolve/v1/nets/b.pth": b"tagged"}


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """A stand-in for a model hub; the requests that it has got."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.wfile.write(self.answer())

        def answer(self) -> bytes:
            requests.append(f"{self.command} {self.path}")
            content = FILES.get(self.path, b"")
            self.send_response(200 if content else 404)
            if not content:
                self.send_header("X-Error-Code", "EntryNotFound" if "/owner/net/" in self.path else "RepoNotFound")
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{hash(content):x}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return content

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    yield requests
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("source", "content"), [("hf://owner/net", b"main"), ("hf://owner/net@v1/nets/b.pth", b"tagged")]
)
def test_a_file_of_a_repository_is_downloaded_once_and_stays_where_there_is_no_connection(
    asked, monkeypatch, source, content
):
    assert locate(source).read_bytes() == content
    assert any(request.startswith("GET") for request in asked)
    asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert locate(source).read_bytes() == content
    assert not asked


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf://owner/net/other.pth", r"must hold other\.pth.* name a file of it, hf://owner/net/FILE"),
        ("hf://nobody/net", "cannot be downloaded"),
        ("hf://net", "must have the form"),
        ("hf://owner/net/../../x", "cannot be downloaded|must hold"),
    ],
)
def test_what_is_not_there_is_one_clear_error(asked, source, message):
    with pytest.raises(CheckpointError, match=message):
        locate(source, "teacher")


def test_without_a_connection_and_a_cache_nothing_is_asked(asked, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="none in the cache"):
        locate("hf://owner/net")
    assert not asked
