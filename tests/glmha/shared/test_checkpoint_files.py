"""Checkpoint files: read without executing anything, taken out of their containers, or refused by name."""

from pathlib import Path

import pytest
import torch

import glmha
from glmha.shared.checkpoint_files import averaged
from tests import goldens

# A small Restormer of the official code.
RESTORMER = "restormer_small_biasfree"


class Executed:
    """Would write a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_of_objects_is_refused_and_not_executed(tmp_path: Path):
    torch.save({"params": Executed(tmp_path / "executed")}, tmp_path / "net.pth")
    with pytest.raises(glmha.CheckpointError, match="never executed"):
        glmha.load_pretrained(tmp_path / "net.pth")
    assert not (tmp_path / "executed").exists()


def test_missing_truncated_and_empty_files_are_named(tmp_path: Path):
    with pytest.raises(glmha.CheckpointError, match="there is none at this path"):
        glmha.load_pretrained(tmp_path / "absent.pth")
    path = tmp_path / "net.pth"
    torch.save({"params": goldens.load(RESTORMER).weights}, path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(glmha.CheckpointError, match=r"net\.pth"):
        glmha.load_pretrained(path)
    (tmp_path / "net.safetensors").write_bytes(b"")
    with pytest.raises(glmha.CheckpointError, match="truncated"):
        glmha.load_pretrained(tmp_path / "net.safetensors")


@pytest.mark.parametrize(
    "content",
    [b"hello, no checkpoint", b"<!DOCTYPE html><html></html>", b"version https://git-lfs.github.com/spec/v1\n", b""],
)
def test_files_that_are_no_checkpoints_are_told_so(tmp_path: Path, content):
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(glmha.CheckpointError, match=r"net\.pth.*(no checkpoint|truncated)") as caught:
        glmha.load_pretrained(path)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"params": {}}, False),
        ({"params": {}, "params_ema": {}}, True),
        ({"state_dict": {}}, None),
        ({"weight": torch.zeros(1)}, None),
        ({"state_dict": {}, "pytorch-lightning_version": "2.6"}, False),
        ({"state_dict": {}, "current_model_state": {}, "pytorch-lightning_version": "2.6"}, True),
    ],
)
def test_a_file_says_whether_its_weights_are_an_average(tmp_path, content, expected):
    torch.save(content, tmp_path / "net.pth")
    assert averaged(tmp_path / "net.pth") is expected
