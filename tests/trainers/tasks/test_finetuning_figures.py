"""The three figures of a fine-tuning: exact, substituted, now; measured once, kept and resumed."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

import glmha
from nystra.hosts.swinir.network import SwinIR
from trainers import RestorationTask
from trainers.evaluation.scores import Evaluation, ImageScore
from trainers.evaluation.tuning_figures import TuningFigures


@pytest.fixture
def substitution(recipe: Path, tmp_path: Path) -> Path:
    """The common recipe as a fine-tuning of a SwinIR under a kernel that costs something, validated every epoch."""
    torch.manual_seed(0)
    net = SwinIR(img_size=16, embed_dim=8, depths=[2], num_heads=[2], window_size=8, mlp_ratio=2.0)
    torch.save({"params": net.state_dict()}, tmp_path / "released.pth")
    config = yaml.safe_load(recipe.read_text())
    config["trainer"]["check_val_every_n_epoch"] = 1
    options = config["model"]["init_args"]
    del options["net"]
    kernel = {"class_path": "nystra.PublishedNystrom", "init_args": {"landmarks": 4, "iterations": 2}}
    options |= {"pretrained": str(tmp_path / "released.pth"), "kernel": kernel}
    config["model"]["class_path"] = "trainers.SubstitutionTask"
    recipe.write_text(yaml.safe_dump(config))
    return recipe


@pytest.fixture
def warm_start(recipe: Path, tmp_path: Path) -> Path:
    """The common recipe as a fine-tuning of a Restormer with GLMHA in the place of its attention."""
    torch.manual_seed(0)
    net = glmha.Restormer(dim=8, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, heads=[1, 1, 2, 2])
    torch.save(net.state_dict(), tmp_path / "released.pth")
    config = yaml.safe_load(recipe.read_text())
    options = config["model"]["init_args"]
    options["attention"] = options.pop("net")["init_args"]["attention"]
    options["pretrained"] = str(tmp_path / "released.pth")
    config["model"]["class_path"] = "trainers.WarmStartTask"
    recipe.write_text(yaml.safe_dump(config))
    return recipe


def figures(folder: Path) -> dict:
    return json.loads((folder / "fine_tuning.json").read_text())


def validated(lowrank, recipe: Path, folder: Path, number: int, *options: object) -> float:
    """The mean PSNR of a validation of its own with other options, the run of that number."""
    assert lowrank("validate", "--config", recipe, *options) == 0
    return json.loads((folder.parent / f"version_{number}/metrics.json").read_text())["average"]["psnr"]


def test_figures_are_those_of_validations_of_their_own(lowrank, substitution, tmp_path, capsys, monkeypatch):
    calls: list[str] = []
    restore_with = RestorationTask.restore_with

    def counted(task: RestorationTask, net: torch.nn.Module, batch: dict) -> list[torch.Tensor]:
        calls.append("student" if net is task.net else "teacher")
        return restore_with(task, net, batch)

    monkeypatch.setattr(RestorationTask, "restore_with", counted)
    assert lowrank("fit", "--config", substitution) == 0
    folder = tmp_path / "logs/run/version_0"
    found = figures(folder)
    # Two images: once by the teacher, and by the student at the start and after each of two epochs.
    assert (calls.count("teacher"), calls.count("student")) == (2, 6)
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.startswith("val/psnr:"))
    assert re.fullmatch(r"val/psnr: exact [\d.]+, substituted [\d.]+, now [\d.]+ \(2 images, step 4\)", line)
    assert line in (folder / "train.log").read_text()
    exact = ["--model.kernel", "nystra.Softmax"]
    last = ["--ckpt_path", folder / "checkpoints/last.ckpt"]
    assert found["exact"]["psnr"] == pytest.approx(validated(lowrank, substitution, folder, 1, *exact), abs=1e-6)
    assert found["substituted"]["psnr"] == pytest.approx(validated(lowrank, substitution, folder, 2), abs=1e-6)
    assert found["now"]["psnr"] == pytest.approx(validated(lowrank, substitution, folder, 3, *last), abs=1e-6)
    assert len({found[kind]["psnr"] for kind in ("exact", "substituted", "now")}) == 3


def test_a_resumed_run_keeps_the_figures_of_the_start(lowrank, substitution, tmp_path):
    folders = [tmp_path / f"logs/run/version_{number}" for number in range(3)]
    assert lowrank("fit", "--config", substitution) == 0
    assert lowrank("fit", "--config", substitution, "--trainer.max_steps", 2) == 0
    last = folders[1] / "checkpoints/last.ckpt"
    assert lowrank("fit", "--config", substitution, "--ckpt_path", last) == 0
    assert figures(folders[1])["step"] == 2
    assert figures(folders[2]) == figures(folders[0])


@pytest.mark.slow
def test_the_warm_start_has_them_too(lowrank, warm_start, tmp_path):
    assert lowrank("fit", "--config", warm_start) == 0
    found = figures(tmp_path / "logs/run/version_0")
    assert found["images"] == ["val/val0", "val/val1"]
    assert len({found[kind]["psnr"] for kind in ("exact", "substituted", "now")}) == 3


def test_all_figures_are_of_the_images_that_were_checked(lowrank, substitution, tmp_path, capsys):
    assert lowrank("fit", "--config", substitution) == 0
    both = figures(tmp_path / "logs/run/version_0")
    assert lowrank("fit", "--config", substitution, "--trainer.num_sanity_val_steps", 1) == 0
    one = figures(tmp_path / "logs/run/version_1")
    assert one["images"] == ["val/val0"]
    assert "(1 image, step 4)" in capsys.readouterr().out
    assert all(one[kind]["psnr"] != both[kind]["psnr"] for kind in ("exact", "substituted", "now"))


def test_without_a_check_there_are_none(lowrank, substitution, tmp_path, capsys):
    assert lowrank("fit", "--config", substitution, "--trainer.num_sanity_val_steps", 0) == 0
    assert not (tmp_path / "logs/run/version_0/fine_tuning.json").exists()
    assert "val/psnr: exact" not in capsys.readouterr().out


def test_a_validation_without_some_of_the_images_changes_nothing():
    def evaluation(*values: float) -> Evaluation:
        scores = [ImageScore("val", str(index), {"psnr": value}) for index, value in enumerate(values)]
        return Evaluation(scores, {"psnr": "RGB"}, {"val": 3})

    start = TuningFigures.of_start(evaluation(30.0, 40.0), evaluation(20.0, 30.0))
    assert start.describe() == "val/psnr: exact 35, substituted 25 (2 images), no validation since"
    assert start.after(evaluation(29.0), 5) == start
    later = start.after(evaluation(29.0, 39.0, 90.0), 5)
    assert later.describe() == "val/psnr: exact 35, substituted 25, now 34 (2 images, step 5)"
    assert TuningFigures(**later.state()) == later
