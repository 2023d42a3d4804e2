"""Recipes of clips: each is run with a small network on clips of its data set's layout."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nystra.hosts.rvrt.network import RVRT
from tests.datamodules.clips.making import write_frames
from tests.trainers.clip_networks import ClipNetwork
from tests.trainers.recipes.shrinking import SHRUNK_RUN, VIDEO, options
from trainers import RestorationTask

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


# Folders of clips to train on, beside those of the tests.
TRAINED = {
    "rvrt_reds": ("reds4", ["REDS/train_sharp/001"]),
    "rvrt_vimeo90k": ("vimeo90k", []),
    "rvrt_gopro": ("gopro_video", ["GoPro/train/GOPR0/blur", "GoPro/train/GOPR0/sharp"]),
    "rvrt_dvd": ("dvd", ["DVD/train_GT/IMG_0001", "DVD/train_GT_blurred/IMG_0001"]),
    "rvrt_davis": ("davis", ["DAVIS-train/bear", "Set8/tractor"]),
}
SMALL = {"num_blocks": [1, 1, 1], "depths": [1, 1, 1], "embed_dims": [12, 12, 12], "num_heads": [2, 2, 2]}


def write(root: Path, folders: list[str]) -> None:
    rng = np.random.default_rng(0)
    for folder in folders:
        write_frames(root / folder, rng.integers(0, 256, (7, 48, 64, 3), np.uint8), start=1, digits=1)
    for part in ("train", "test"):
        if (root / "vimeo_septuplet").is_dir():
            (root / f"vimeo_septuplet/sep_{part}list.txt").write_text("00001/0001")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", VIDEO, ids=lambda path: path.stem)
def test_recipes_of_clips_train(lowrank: Lowrank, tmp_path: Path, recipe: Path):
    tested, trained = TRAINED[recipe.stem]
    write(tmp_path / "data", [*EVALUATIONS[tested][2], *trained])
    arguments = ["--config", f"video/{recipe.name}", *options("trainer", SHRUNK_RUN), "--max_batch_per_device", "null"]
    data = {"root": tmp_path / "data", "patch_size": 8 if tested in ("vimeo90k", "reds4") else 32}
    data |= {"batch_size": 1, "num_workers": 0} | ({} if tested == "vimeo90k" else {"num_frames": 2})
    if tested == "vimeo90k":
        torch.save({"params": RVRT(**SMALL).state_dict()}, tmp_path / "net.pth")
        arguments += ["--model.pretrained", tmp_path / "net.pth"]
    else:
        arguments += [*options("model.net", SMALL), "--model.net.inputconv_groups", "[1, 1, 1, 1, 1, 1]"]
    assert lowrank("fit", *arguments, *options("data", data)) == 0
    [last] = Path.cwd().rglob("last.ckpt")
    task = RestorationTask.load_from_checkpoint(last)
    assert isinstance(task.net, RVRT)
    rates = torch.load(last, weights_only=True)["optimizer_states"][0]["param_groups"]
    assert rates[1]["initial_lr"] == pytest.approx(rates[0]["initial_lr"] / 4)


@pytest.mark.slow
def test_comparisons_of_clips_run(lowrank: Lowrank, tmp_path: Path):
    write(tmp_path / "data", EVALUATIONS["reds4"][2][:1])
    torch.save({"params": RVRT(**SMALL).state_dict()}, tmp_path / "net.pth")
    arguments = ["--config", "nystra/rvrt_reds.yaml", "--pretrained", tmp_path / "net.pth"]
    arguments += ["--data.root", tmp_path / "data", "--window_size", 16, "--images", 1, "--repeats", 1, "--frames", 4]
    assert lowrank("compare", *arguments, "--memory", "false", "--output", tmp_path / "out") == 0
    record = json.loads((tmp_path / "out/metrics.json").read_text())
    assert len(record["variants"]) == 8
    assert all(variant["flicker"] > 0 for variant in record["variants"].values())


@pytest.mark.parametrize("recipe", CASES)
def test_evaluations_of_clips_need_a_checkpoint_only(lowrank: Lowrank, tmp_path: Path, monkeypatch, recipe):
    scale, channels, folders = EVALUATIONS[recipe]
    monkeypatch.setattr("trainers.tasks.compatibility.load_network", lambda *_: ClipNetwork(scale, channels))
    torch.save({"params": {}}, tmp_path / "net.pth")
    write(tmp_path / "data", folders)
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
