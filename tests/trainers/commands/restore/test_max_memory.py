"""`lowrank restore --max_memory`: whole photographs by networks with channel attention, in bounded memory."""

import numpy as np
import pytest
from safetensors.torch import save_file

from datamodules.files.images import read_image
from tests.trainers.small_networks import restormer, swinir


def test_pixels_are_those_of_the_whole_image(lowrank, pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file(restormer().state_dict(), "net.safetensors")
    picture = next((pairs / "test/input").iterdir())
    for output, options in (("whole", ["--tile", "null"]), ("rows", ["--max_memory", "0.25"])):
        assert lowrank("restore", picture, "--pretrained", "net.safetensors", "--output", output, *options) == 0
    whole, rows = (read_image(tmp_path / name / picture.name).astype(int) for name in ("whole", "rows"))
    assert np.abs(whole - rows).max() <= 1


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        (restormer, ["--tile", "64"], "tile (64) must be left out with max_memory (1.0)"),
        (restormer, ["--overlap", "8"], "overlap (8) must be null"),
        (restormer, ["--max_memory", "0.001"], "max_memory (1073741 bytes) must be at least"),
        (swinir, [], "max_memory must be left out for SwinIR with no channel attention"),
    ],
)
def test_what_does_not_go_together_is_refused(lowrank, pairs, tmp_path, monkeypatch, capsys, net, options, message):
    monkeypatch.chdir(tmp_path)
    save_file(net().state_dict(), "net.safetensors")
    picture = next((pairs / "test/input").iterdir())
    words = ["restore", picture, "--pretrained", "net.safetensors", "--output", "out", "--max_memory", "1", *options]
    assert lowrank(*words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
