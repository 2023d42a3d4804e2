"""Evaluations: every image is scored once, as inference restores it, and the record says what was measured."""

import json
import math
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import nystra
from datamodules import PairedFolderDataModule
from glmha.shared.released.download import digest_of
from nystra.hosts.dehazeformer.network import DehazeFormer
from tests.trainers.tasks.one_value import Images, Offset, Photographs, trainer
from trainers import RestorationTask
from trainers.metrics import PSNR

pytestmark = pytest.mark.filterwarnings(
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated",  # within Lightning
    "ignore:The '.*_dataloader' does not have many workers",  # tests need none
    "ignore:You defined a `validation_step` but have no",  # nor validation
)


Lowrank = Callable[..., int]


def test_test_scores_every_image_and_keeps_the_record(tmp_path, capsys):
    task = RestorationTask(Offset(0.2 + 1 / 255), metrics=[PSNR()])
    evaluation = trainer(tmp_path)
    evaluation.test(task, [DataLoader(Images(1)), DataLoader(Images(3))], verbose=False)
    record = json.loads((tmp_path / "metrics.json").read_text())
    one_level_off = 20 * math.log10(255)
    assert record["metrics"] == {"psnr": "PSNR on RGB, uint8, border 0"}
    assert record["average"]["psnr"] == pytest.approx(one_level_off)
    assert [entry["images"] for entry in record["sets"].values()] == [1, 3]
    assert record["sets"]["test2"]["per_image"]["image2"]["psnr"] == pytest.approx(one_level_off)
    assert record["sets"]["test2"]["mean"]["psnr"] == pytest.approx(one_level_off)
    assert record["partial"] is False
    assert record["weights"] is None
    libraries = {"lowrank-attention", "torch", "lightning", "numpy", "opencv-python-headless", "jpeg", "python"}
    assert set(record["versions"]) == libraries
    assert (record["images"], record["images_expected"]) == (4, 4)
    settings = {
        "trained_steps": 0,
        "tile": None,
        "overlap": None,
        "self_ensemble": False,
        "attention": {},
        "precision": "32-true",
        "device": "cpu",
    }
    assert {key: record[key] for key in settings} == settings
    assert evaluation.callback_metrics["test/partial"].item() == 0
    assert evaluation.callback_metrics["test/psnr"].item() == pytest.approx(one_level_off)
    assert evaluation.callback_metrics["test/test2/psnr"].item() == pytest.approx(one_level_off)
    printed = capsys.readouterr().out
    assert "PSNR on RGB, uint8, border 0" in printed
    assert "mean of sets" in printed


@pytest.mark.parametrize(("scale", "border", "told"), [(4, 2, True), (4, 4, False), (1, 2, False)])
def test_a_border_that_is_not_the_scale_is_told(caplog, scale, border, told):
    task = RestorationTask(Offset(), metrics=[PSNR(space="y", border=border)])
    task.trainer = SimpleNamespace(datamodule=SimpleNamespace(scale=scale), is_global_zero=True)
    task.on_test_start()
    assert ("border of metrics (PSNR-Y 2) is not the scale, 4" in caplog.text) == told


def test_a_partial_evaluation_says_so(tmp_path, capsys):
    evaluation = trainer(tmp_path, limit_test_batches=2)
    evaluation.test(RestorationTask(Offset()), DataLoader(Images(3)), verbose=False)
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record["partial"] is True
    assert (record["images"], record["images_expected"]) == (2, 3)
    # TensorBoard has it beside the means.
    assert evaluation.callback_metrics["test/partial"].item() == 1
    assert record["sets"]["test"]["images"] == 2
    assert record["sets"]["test"]["images_expected"] == 3
    printed = capsys.readouterr().out
    assert "2 of 3" in printed
    assert "partial: images of the benchmark are missing" in " ".join(printed.split())


@pytest.mark.slow
@pytest.mark.parametrize("ema", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_record_says_whether_weights_are_an_average(lowrank: Lowrank, recipe, tmp_path, ema):
    average = ["--trainer.callbacks+", "lightning.pytorch.callbacks.EMAWeightAveraging"] if ema else []
    assert lowrank("fit", "--config", recipe, *average) == 0
    last = next(tmp_path.rglob("last.ckpt"))
    for options in (["--ckpt_path", last], ["--model.pretrained", last]):
        assert lowrank("test", "--config", recipe, *average, *options) == 0
        newest = max(tmp_path.rglob("metrics.json"), key=lambda path: path.stat().st_mtime_ns)
        weights = json.loads(newest.read_text())["weights"]
        assert weights == {"path": str(last), "sha256": digest_of(last), "ema": ema}


class Published(PairedFolderDataModule):
    """A data set that is published with five images in its test set, and with another test set of seven."""

    published_counts: ClassVar = {"test": 5, "other": 7}


def test_what_is_missing_of_a_published_data_set_makes_a_result_partial(lowrank: Lowrank, recipe, capsys, tmp_path):
    options = ["--config", recipe, "--data.class_path", f"{__name__}.Published"]
    assert lowrank("test", *options) == 0
    record = json.loads(next(tmp_path.rglob("metrics.json")).read_text())
    assert record["partial"] is True
    assert (record["sets"]["test"]["images"], record["sets"]["test"]["images_expected"]) == (3, 5)
    assert record["sets_absent"] == {"other": 7}
    printed = capsys.readouterr().out
    assert "3 of 5" in printed
    assert re.search(r"other\W+0 of 7", printed)


def test_images_of_an_evaluation_stay_where_they_are(tmp_path, pairs):
    data = PairedFolderDataModule(test_input=pairs / "test/input", test_target=pairs / "test/target")
    batch = {"input": torch.rand(1, 3, 8, 8), "name": ["image"]}
    for training in (True, False):
        data.trainer = SimpleNamespace(training=training)
        moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
        assert moved["input"].device.type == ("meta" if training else "cpu")


def test_identical_images_have_an_infinite_psnr_that_json_can_hold(tmp_path):
    trainer(tmp_path).validate(RestorationTask(Offset(0.2)), DataLoader(Images(1)), verbose=False)
    text = (tmp_path / "metrics.json").read_text()
    assert float(json.loads(text, parse_constant=pytest.fail)["average"]["psnr"]) == math.inf


def test_an_image_that_cannot_be_scored_is_named(tmp_path):
    with pytest.raises(ValueError, match="must be finite") as caught:
        trainer(tmp_path).test(RestorationTask(Offset(math.nan)), DataLoader(Images(1)), verbose=False)
    assert caught.value.__notes__ == ["This was image image0 of test."]
    assert not (tmp_path / "metrics.json").exists()


class Recorder(Offset):
    """Remembers the sizes that it is given; wants multiples of 8."""

    size_multiple = 8

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def forward(self, image: Tensor) -> Tensor:
        self.seen.add(tuple(image.shape[-2:]))
        return super().forward(image)


@pytest.mark.parametrize(("tile", "overlap", "seen"), [(None, 48, {(16, 16)}), (11, 0, {(8, 8)})])
def test_evaluation_pads_and_tiles_as_inference_does(tmp_path, tile, overlap, seen):
    net = Recorder()
    task = RestorationTask(net, tile=tile, overlap=overlap)
    trainer(tmp_path).test(task, DataLoader(Images(1)), verbose=False)
    assert net.seen == seen
    record = json.loads((tmp_path / "metrics.json").read_text())
    # The network takes multiples of 8.
    assert (record["tile"], record["overlap"]) == ((None, None) if tile is None else (8, overlap))


class Sharpening(nystra.Softmax):
    """A kernel of another package, which checkpoints cannot record."""


@pytest.mark.parametrize(
    ("kernel", "described"),
    [
        (
            nystra.LandmarkPooling(4, 16, "own"),
            {"class": "LandmarkPooling", "landmarks": 4, "cells": 16, "near": "own"},
        ),
        (Sharpening(), "Sharpening()"),
    ],
)
def test_the_record_names_windows_and_kernels_as_they_are(tmp_path, kernel, described):
    net = DehazeFormer(embed_dims=[8] * 5, depths=[1] * 5, num_heads=[2] * 5, attn_ratio=[1] * 5, mlp_ratios=[1] * 5)
    net.set_window(16, "interpolate")
    nystra.substitute(net, kernel)
    trainer(tmp_path).test(RestorationTask(net, metrics=[PSNR()]), DataLoader(Photographs()), verbose=False)
    attention = json.loads((tmp_path / "metrics.json").read_text())["attention"]
    assert set(map(str, attention["kernels"].values())) == {str(described)}
    if isinstance(described, dict):
        assert (attention["window_size"], attention["position_bias"]) == (16, "interpolate")


def test_the_record_counts_the_steps_that_weights_were_trained_for_since_they_were_read(tmp_path):
    task = RestorationTask(Offset(), optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    training = trainer(tmp_path, max_steps=2)
    training.fit(task, DataLoader(Images()))
    training.save_checkpoint(tmp_path / "two.ckpt")
    for options, steps in (({}, 2), ({"ckpt_path": tmp_path / "two.ckpt"}, 0)):
        training.test(task, DataLoader(Images(1)), verbose=False, **options)
        record = json.loads((tmp_path / "metrics.json").read_text())
        assert record["trained_steps"] == steps
        assert (record["weights"] is None) == bool(steps)


class Autocasting(Offset):
    """Remembers the precision that it is run in."""

    def forward(self, image: Tensor) -> Tensor:
        self.dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        return super().forward(image)


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", None), ("bf16-mixed", torch.bfloat16)])
def test_evaluation_runs_in_the_trainer_s_precision(tmp_path, precision, dtype):
    net = Autocasting()
    trainer(tmp_path, precision=precision).test(RestorationTask(net), DataLoader(Images(1)), verbose=False)
    assert net.dtype is dtype


@pytest.mark.filterwarnings("ignore:Using `DistributedSampler` with the dataloaders")  # and `gather` undoes it
def test_two_processes_cover_every_image_once(tmp_path):
    # Of three images one is given to both processes, of a single one both have it.
    loaders = [DataLoader(Images(3, odd=(2, 0.5))), DataLoader(Images(1))]
    evaluation = trainer(tmp_path, devices=2, strategy="ddp_fork")
    evaluation.test(RestorationTask(Offset(0.1), metrics=[PSNR()]), loaders, verbose=False)
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert [list(found["per_image"]) for found in record["sets"].values()] == [
        ["image0", "image1", "image2"],
        ["image0"],
    ]
    assert (record["images"], record["images_expected"], record["partial"]) == (4, 4, False)
    for found in record["sets"].values():
        values = [value["psnr"] for value in found["per_image"].values()]
        assert found["mean"]["psnr"] == pytest.approx(np.mean(values))
        assert all(value == pytest.approx(20, abs=0.3) for value in values)
