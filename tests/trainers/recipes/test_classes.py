"""Classes of this package by the option that takes them: in help, and as the answer to a name alone."""

import re

import pytest

import glmha
from trainers.recipes.classes import CHOICES, listed_classes, own_classes


@pytest.mark.parametrize(
    ("option", "among", "absent"),
    [
        ("data", "datamodules.PairedFolderDataModule", "datamodules.RestorationDataModule"),
        ("model", "trainers.RestorationTask", "trainers.Mixup"),
        ("model.net", "glmha.Restormer", "glmha.GLMHA"),
        ("model.net", "nystra.SwinIR", "torch.nn.Identity"),
        ("model.net.attention", "glmha.GLMHA", "glmha.Restormer"),
        ("kernels", "nystra.LandmarkPooling", "nystra.Kernel"),
        ("model.loss", "trainers.losses.Charbonnier", "torch.nn.L1Loss"),
        ("model.scheduler", "trainers.schedules.WarmupCosine", "torch.optim.lr_scheduler.StepLR"),
        ("model.metrics", "trainers.metrics.PSNR", "trainers.metrics.ImageMetric"),
    ],
)
def test_an_option_s_own_classes_are_those_of_its_purpose(option, among, absent):
    found = own_classes(option)
    assert among in found
    assert absent not in found


def test_help_lists_this_package_s_classes_first_and_those_of_torch_that_fit():
    known = ["torch.nn.Module", "torch.nn.L1Loss", "glmha.Restormer", "torch.nn.CTCLoss"]
    assert listed_classes("model.net", known) == own_classes("model.net")
    assert listed_classes("model.loss", known) == [*own_classes("model.loss"), "torch.nn.L1Loss"]
    assert listed_classes("trainer.strategy", known) == known


def test_help_of_a_task_names_this_package_s_networks_and_no_layer_of_torch(lowrank, capsys):
    assert lowrank("fit", "--model.help", "trainers.RestorationTask") == 0
    printed = capsys.readouterr().out
    assert "glmha.Restormer" in printed
    assert "torch.nn.Linear" not in printed
    assert len(printed.splitlines()) < 150


def test_help_without_a_class_lists_all_of_this_package(lowrank, capsys):
    assert lowrank("fit", "--model.help") == 0
    lines = capsys.readouterr().out.splitlines()
    for option, choice in CHOICES.items():
        assert f"{choice.title}:" in lines
        for path in own_classes(option):
            assert any(line.startswith(f"  {path}: ") for line in lines)
    assert f"  glmha.GLMHA: {glmha.GLMHA.__doc__.splitlines()[0]}" in lines


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["restore", "--kernel.help"], "kernel"),
        (["restore", "--kernel.help", "--tile", "64"], "kernel"),
        (["compare", "--kernels.help"], "kernels"),
        (["score", "--metrics.help"], "metrics"),
        (["fit", "--model.net.help"], "net"),
    ],
)
def test_help_on_one_option_without_a_class_lists_its_classes(lowrank, capsys, arguments, option):
    assert lowrank(*arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{CHOICES[option].title}:"
    assert [line.strip().partition(": ")[0] for line in lines if line.startswith("  ")] == own_classes(option)


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (["--data", "PairedFolder"], "datamodules.PairedFolderDataModule"),
        (["--data", "rain13k"], "datamodules.Rain13kDataModule"),
        (["--model", "RestorationTsk"], "trainers.RestorationTask"),
        (["--model.net", "Restormr"], "glmha.Restormer"),
        (["--model.loss", "Charbonier"], "trainers.losses.Charbonnier"),
        (["--model.scheduler", "WarmupCosin"], "trainers.schedules.WarmupCosine"),
        (["--model.net.attention", "GLMA"], "glmha.GLMHA"),
    ],
)
def test_a_name_alone_is_answered_with_the_nearest_class(lowrank, recipe, capsys, arguments, path):
    assert lowrank("fit", "--config", recipe, *arguments) == 2
    message = capsys.readouterr().err.strip()
    option = arguments[0].removeprefix("--")
    assert message.startswith(f"error: {option} ({arguments[1]}) must name a class by its path")
    assert message.endswith(f"did you mean {path}?")


def test_a_kernel_alone_is_answered_with_the_nearest_class(lowrank, capsys):
    options = ["--pretrained", "net.pth", "--output", "out", "--kernel", "LandmarkPool"]
    assert lowrank("restore", "photo.png", *options) == 2
    assert "did you mean nystra.LandmarkPooling?" in capsys.readouterr().err


def test_a_name_that_is_like_none_is_answered_with_all(lowrank, recipe, capsys):
    assert lowrank("fit", "--config", recipe, "--model.net", "Zz") == 2
    assert re.search(r"this package's: .*glmha\.Restormer", capsys.readouterr().err)
