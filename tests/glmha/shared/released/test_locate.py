"""Names, addresses and paths lead to one file, which is downloaded once."""

import dataclasses
import hashlib
import io
import logging
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

import glmha
import nystra
from glmha.shared.checkpoint_files import CheckpointError
from glmha.shared.released import locate as module
from glmha.shared.released.locate import cached, locate, place
from glmha.shared.released.table import Released
from tests.trainers.small_networks import restormer
from trainers.networks import load_network


@pytest.fixture
def content() -> bytes:
    buffer = io.BytesIO()
    torch.save({"params": restormer().state_dict()}, buffer)
    return buffer.getvalue()


@pytest.fixture
def entry(served, cache, content, monkeypatch) -> Released:
    """A released checkpoint on the server, whose digest is not known."""
    served.content = content
    address = f"{served.address}/net.pth"
    made = Released("tiny-net", "Restormer", "rain", "net.pth", 1, "https://up", "https://paper", "MIT", True, address)
    use(monkeypatch, made)
    return made


def use(monkeypatch, entry: Released) -> None:
    monkeypatch.setattr(module, "released", lambda: {entry.name: entry})


@pytest.mark.parametrize("load", [glmha.load_pretrained, load_network])
def test_a_name_is_downloaded_once(served, entry, load):
    assert cached(entry) is None
    for _ in range(2):
        assert isinstance(load("tiny-net"), glmha.Restormer)
    assert served.asked == [""]
    assert cached(entry) == place(entry)


def test_the_first_download_is_noted_and_later_ones_are_held_to_it(served, entry, content):
    path = locate("tiny-net")
    noted = path.with_name(f"{path.name}.sha256")
    assert noted.read_text() == hashlib.sha256(content).hexdigest()
    path.unlink()
    served.content = content[::-1]
    with pytest.raises(CheckpointError, match="other bytes than are known"):
        locate("tiny-net")
    served.content = content
    assert locate("tiny-net").read_bytes() == content


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_part_that_is_called_the_whole_is_not_kept(served, entry, content, ending):
    if ending == "safetensors":
        served.content = safetensors.torch.save(restormer().state_dict())
    whole, served.promised = len(served.content), len(served.content) - 30
    address = f"{served.address}/net.{ending}"
    with pytest.raises(CheckpointError, match="sent a part of the file and called it the whole"):
        locate(address)
    served.promised = None
    assert locate(address).stat().st_size == whole
    assert isinstance(glmha.load_pretrained(address), glmha.Restormer)


def test_a_known_digest_and_size_are_held(served, entry, content, monkeypatch):
    use(monkeypatch, dataclasses.replace(entry, sha256="0" * 64))
    with pytest.raises(CheckpointError, match="other bytes than are known"):
        locate("tiny-net")
    use(monkeypatch, dataclasses.replace(entry, sha256=hashlib.sha256(content).hexdigest(), size=len(content)))
    assert locate("tiny-net").read_bytes() == content


def test_an_address_is_downloaded_once_and_two_of_one_name_are_two_files(served, entry, content):
    first = locate(f"{served.address}/a/net.pth?x=http://y")
    served.content = content + b"\0"
    second = locate(f"{served.address}/b/net.pth")
    assert first == locate(f"{served.address}/a/net.pth?x=http://y")
    assert (first.name, second.name) == ("net.pth", "net.pth")
    assert first.read_bytes() != second.read_bytes()
    assert len(served.asked) == 2


def test_a_file_comes_before_a_name(entry, tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    Path("tiny-net").write_bytes(content)
    assert locate("tiny-net") == Path("tiny-net")


def test_a_path_is_never_downloaded(served, entry):
    for text in (f"{served.address}/net.pth", "tiny-net"):
        with pytest.raises(CheckpointError):
            locate(Path(text))
    assert not served.asked


def test_a_drive_that_asks_questions_is_named_with_what_to_do(served, entry, content, monkeypatch):
    digest = hashlib.sha256(content).hexdigest()
    by_hand = dataclasses.replace(entry, address=None, page="https://drive/x", sha256=digest)
    use(monkeypatch, by_hand)
    with pytest.raises(CheckpointError, match=r"open https://drive/x, download net\.pth, and put it at .*tiny-net"):
        locate("tiny-net")
    place(by_hand).parent.mkdir(parents=True, exist_ok=True)
    place(by_hand).write_bytes(content[::-1])
    with pytest.raises(CheckpointError, match="must have the SHA-256"):
        locate("tiny-net")
    place(by_hand).write_bytes(content)
    assert locate("tiny-net") == place(by_hand)
    assert not served.asked


def test_offline_takes_what_is_there_and_names_the_place_of_what_is_not(served, entry, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for source in ("tiny-net", f"{served.address}/net.pth"):
        with pytest.raises(CheckpointError, match="must be in the cache where HF_HUB_OFFLINE forbids downloads: put"):
            locate(source)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    locate("tiny-net")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert locate("tiny-net").is_file()
    assert served.asked == [""]


def test_a_licence_that_forbids_commercial_use_is_said_once(entry, monkeypatch, caplog):
    use(monkeypatch, dataclasses.replace(entry, commercial=False, licence="CC-BY-NC-4.0"))
    with caplog.at_level(logging.WARNING):
        locate("tiny-net")
        locate("tiny-net")
    assert caplog.text.count("CC-BY-NC-4.0, forbids commercial use (https://up)") == 1


def test_a_mistyped_name_is_told_its_neighbour(entry):
    with pytest.raises(CheckpointError, match=r"teacher \(tinynet\) must be .* did you mean tiny-net"):
        locate("tinynet", "teacher")
    with pytest.raises(CheckpointError, match="got neither"):
        locate("something")
    with pytest.raises(CheckpointError, match="there is none at this path"):
        nystra.load_pretrained("folder/net.pth")
    with pytest.raises(CheckpointError, match="must be an address"):
        locate("http://[/net.pth")


@pytest.mark.parametrize(
    "address", ["s3://bucket/net.pth", "file:///etc/hostname", "simplecache::http://x/y", "ftp://x/y"]
)
def test_other_addresses_are_refused(entry, address):
    with pytest.raises(CheckpointError, match="got an address: download it first"):
        locate(address)


def test_a_cache_that_cannot_be_written_still_serves(entry, cache):
    locate("tiny-net")
    for path in cache.glob("*.lock"):
        path.unlink()
    cache.chmod(0o500)
    try:
        assert locate("tiny-net").is_file()
        assert not list(cache.glob("*.lock"))
    finally:
        cache.chmod(0o700)
    shutil.rmtree(cache)
