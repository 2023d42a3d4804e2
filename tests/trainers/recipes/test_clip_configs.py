"""Recipes of evaluations of clips: each is run with a small network on clips of its data set's layout."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.datamodules.clips.making import write_frames
from tests.trainers.clip_networks import ClipNetwork

Lowrank = Callable[..., int]

# Scale and channels of the network's inputs; folders of clips in the data's root.
EVALUATIONS = {
    "reds4": (4, 3, ["REDS4/GT/000", "REDS4/GT/011"]),
    "vid4": (4, 3, ["Vid4/GT/walk"]),
    "udm10": (4, 3, ["UDM10/GT/archwall"]),
    "vimeo90k": (4, 3, ["vimeo_septuplet/sequences/00001/0001"]),
    "gopro_video": (1, 3, ["GoPro/test/GOPR1/blur", "GoPro/test/GOPR1/sharp"]),
    "dvd": (1, 3, ["DVD/test_GT/IMG_0021", "DVD/test_GT_blurred/IMG_0021"]),
    "davis": (1, 4, ["DAVIS-test/bear"]),
    "set8": (1, 4, ["Set8/tractor"]),
}
# One of each kind runs in every run of the tests.
RUN = ("vimeo90k", "davis")
CASES = [name if name in RUN else pytest.param(name, marks=pytest.mark.slow) for name in EVALUATIONS]


@pytest.mark.parametrize("recipe", CASES)
def test_evaluations_of_clips_need_a_checkpoint_only(lowrank: Lowrank, tmp_path: Path, monkeypatch, recipe):
    scale, channels, folders = EVALUATIONS[recipe]
    monkeypatch.setattr("trainers.tasks.compatibility.load_network", lambda *_: ClipNetwork(scale, channels))
    torch.save({"params": {}}, tmp_path / "net.pth")
    rng = np.random.default_rng(0)
    for folder in folders:
        write_frames(tmp_path / "data" / folder, rng.integers(0, 256, (7, 48, 64, 3), np.uint8), start=1, digits=1)
    if recipe == "vimeo90k":
        (tmp_path / "data/vimeo_septuplet/sep_testlist.txt").write_text("00001/0001")
    arguments = ["--config", f"eval/{recipe}.yaml", "--data.root", tmp_path / "data", "--data.num_workers", 0]
    arguments += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    assert lowrank("test", *arguments, "--model.pretrained", tmp_path / "net.pth") == 0
    [file] = Path.cwd().rglob("metrics.json")
    record = json.loads(file.read_text())
    [values] = record["sets"].values()
    space = "BasicSR's unrounded Y" if recipe in ("vid4", "udm10", "vimeo90k") else "RGB"
    assert next(iter(record["metrics"].values())) == f"PSNR on {space}, uint8, border 0"
    for frames in values["per_frame"].values():
        assert [len(scores) for scores in frames.values()] == [1 if recipe == "vimeo90k" else 7] * 2
    assert record["clips"]["mirror"] is (recipe == "vimeo90k")
    assert file.parts[-3] == f"eval_{recipe}"
