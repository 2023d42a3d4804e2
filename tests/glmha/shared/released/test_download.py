"""A download ends with the whole file or with none, whatever the server does."""

import hashlib

import pytest

from glmha.shared.checkpoint_files import CheckpointError
from glmha.shared.released import download
from glmha.shared.released.download import fetch

CONTENT = bytes(range(256)) * 12
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "there" / "net.pth"


def test_a_whole_file_arrives(served, target):
    served.content = CONTENT
    assert fetch(f"{served.address}/net.pth", target, "pretrained", size=len(CONTENT), sha256=DIGEST) == DIGEST
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["net.pth"]


@pytest.mark.parametrize("etag", ['"first"', 'W/"weak"', ""])
def test_what_broke_off_is_gone_on_with_where_the_server_can(served, target, etag):
    served.content, served.etag, served.cuts = CONTENT, etag, [1000, 500]
    assert fetch(f"{served.address}/net.pth", target, "pretrained") == DIGEST
    resumed = ["", "bytes=1000-", "bytes=1500-"] if etag == '"first"' else ["", "", ""]
    assert served.asked == resumed


def test_what_broke_off_for_good_is_gone_on_with_by_the_next_command(served, target):
    served.content, served.cuts = CONTENT, [100, 100, 100]
    with pytest.raises(CheckpointError, match=r"300 bytes have arrived.*Run this again"):
        fetch(f"{served.address}/net.pth", target, "pretrained")
    assert not target.exists()
    assert fetch(f"{served.address}/net.pth", target, "pretrained") == DIGEST
    assert served.asked[-1] == "bytes=300-"


def test_another_file_by_now_is_not_joined_to_the_beginning_of_the_first(served, target):
    served.content, served.cuts = b"old" * 500, [100, 100, 100]
    with pytest.raises(CheckpointError):
        fetch(f"{served.address}/net.pth", target, "pretrained")
    served.content, served.etag = CONTENT, '"second"'
    assert fetch(f"{served.address}/net.pth", target, "pretrained") == DIGEST


def test_more_than_the_server_has_by_now_is_thrown_away(served, target):
    served.content, served.cuts = CONTENT, [1000, 1, 1]
    with pytest.raises(CheckpointError):
        fetch(f"{served.address}/net.pth", target, "pretrained")
    served.content = CONTENT[:500]
    fetch(f"{served.address}/net.pth", target, "pretrained")
    assert target.read_bytes() == CONTENT[:500]


@pytest.mark.parametrize("promised", [len(CONTENT) + 1, 10 * len(CONTENT)])
def test_a_server_that_promises_more_than_it_sends_ends(served, target, promised):
    served.content, served.promised, served.etag = CONTENT, promised, ""
    with pytest.raises(CheckpointError, match="could not be downloaded whole"):
        fetch(f"{served.address}/net.pth", target, "pretrained")
    assert not target.exists()
    assert len(served.asked) == download.ATTEMPTS


@pytest.mark.parametrize(
    ("content", "due", "message"),
    [
        (b"  <!DOCTYPE html><title>Sign in</title>", {}, "the server sent a web page"),
        (b"<HTML>too many have downloaded this", {}, "the server sent a web page"),
        (CONTENT[:-1], {"size": len(CONTENT)}, "sent 3071 bytes where 3072 are due"),
        (CONTENT[::-1], {"size": len(CONTENT), "sha256": DIGEST}, "other bytes than are known by this name"),
        (b"", {"size": 1}, "sent 0 bytes"),
    ],
)
def test_something_else_in_place_of_the_file_is_refused_and_not_kept(served, target, content, due, message):
    served.content = content
    with pytest.raises(CheckpointError, match=f"^teacher .*{message}"):
        fetch(f"{served.address}/net.pth", target, "teacher", **due)
    assert not list(target.parent.iterdir())


@pytest.mark.parametrize(
    ("status", "message", "requests"),
    [(404, "answers 404", 1), (403, "answers 403", 1), (503, "answers 503", download.ATTEMPTS)],
)
def test_a_refusal_is_reported_and_only_an_overloaded_server_is_asked_again(served, target, status, message, requests):
    served.content, served.status = b"no", status
    with pytest.raises(CheckpointError, match=message):
        fetch(f"{served.address}/net.pth", target, "pretrained")
    assert len(served.asked) == requests


def test_redirections_are_followed_within_the_web(served, target):
    served.content = CONTENT
    served.moves = {"/net.pth": f"{served.address}/there", "/there": "/elsewhere"}
    assert fetch(f"{served.address}/net.pth", target, "pretrained") == DIGEST


@pytest.mark.parametrize("place", ["file:///etc/hostname", "ftp://127.0.0.1/net.pth", "/net.pth"])
def test_redirections_elsewhere_and_in_circles_are_not(served, target, place):
    served.moves = {"/net.pth": place}
    with pytest.raises(CheckpointError, match=r"(?i)redirect"):
        fetch(f"{served.address}/net.pth", target, "pretrained")
    assert not target.exists()


def test_a_file_without_end_is_given_up(served, target):
    served.content = CONTENT
    with pytest.raises(CheckpointError, match="at most 1000 bytes"):
        fetch(f"{served.address}/net.pth", target, "pretrained", largest=1000)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/net.pth", "http://a..b/net.pth", "http://a b/"])
def test_a_server_that_is_not_there_is_one_clear_error(target, address):
    with pytest.raises(CheckpointError, match="could not be downloaded"):
        fetch(address, target, "pretrained")
