"""The task: what is optimised, what stops it, and what an evaluation leaves behind."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import nystra
from datamodules import PairedFolderDataModule
from datamodules.files.images import read_image
from glmha import Restormer
from glmha.shared.checkpoint_files import CheckpointError
from nystra.hosts.dehazeformer.network import DehazeFormer
from trainers import NonFiniteError, RestorationTask
from trainers.evaluation.provenance import digest
from trainers.evaluation.scores import Evaluation, ImageScore, gather
from trainers.metrics import PSNR, SSIM, psnr

pytestmark = pytest.mark.filterwarnings(
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated",  # within Lightning
    "ignore:The '.*_dataloader' does not have many workers",  # tests need none
    "ignore:You defined a `validation_step` but have no",  # nor validation
)

Lowrank = Callable[..., int]


class Offset(nn.Module):
    """Adds one learned value to an image: the smallest network that can learn something."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, image: Tensor) -> Tensor:
        return image + self.value


class Images(Dataset):
    """Grey images whose target is 0.2 brighter, one of them of a value of its own."""

    def __init__(self, count: int = 4, odd: tuple[int, float] | None = None) -> None:
        self.values = [0.2] * count
        if odd is not None:
            self.values[odd[0]] = odd[1]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> dict[str, object]:
        image = torch.full((1, 12, 14), self.values[index])
        return {"input": image, "target": image + 0.2, "name": f"image{index}"}


class Photographs(Dataset):
    """One image of colours, its own target."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> dict[str, object]:
        image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(index))
        return {"input": image, "target": image, "name": "noise"}


def trainer(folder: Path, **options: object) -> Trainer:
    defaults = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    defaults |= {
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "accelerator": "cpu",
        "default_root_dir": folder,
    }
    return Trainer(**defaults | options)


def test_training_lowers_the_loss_with_the_given_optimiser_and_schedule(tmp_path):
    task = RestorationTask(
        Offset(),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.05),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5),
    )
    fit = trainer(tmp_path, max_steps=4)
    fit.fit(task, DataLoader(Images(), batch_size=2))
    # The L1 loss has slope -1: two steps of 0.05 and, the schedule counting steps, two of 0.025.
    assert task.net.value.item() == pytest.approx(0.15)
    assert fit.callback_metrics["train/loss"].item() == pytest.approx(0.2 - 0.125)
    assert fit.callback_metrics["train/gradient_norm"].item() == pytest.approx(1)
    assert fit.callback_metrics["train/learning_rate"].item() == pytest.approx(0.025)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_the_batch(tmp_path, accumulate):
    task = RestorationTask(Offset(), optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.05))
    fit = trainer(tmp_path, max_epochs=1, accumulate_grad_batches=accumulate)
    with pytest.raises(NonFiniteError, match=rf"loss .* got nan at step {4 // accumulate} on the batch of image3:"):
        fit.fit(task, DataLoader(Images(4, odd=(3, math.nan))))
    assert task.net.value.item() == pytest.approx(0.05 * (4 / accumulate - 1))


class InfiniteSlope(nn.Module):
    """A loss that is finite where its gradient is not."""

    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        return (preds - preds.detach()).square().mean().sqrt()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_gradient_that_is_not_finite_stops_too(tmp_path, accumulate):
    task = RestorationTask(Offset(), InfiniteSlope())
    names = ", ".join(f"image{index}" for index in range(accumulate))
    with pytest.raises(NonFiniteError, match=rf"gradient norm .* got nan at step 1 on the batch of {names}:"):
        trainer(tmp_path, max_epochs=1, accumulate_grad_batches=accumulate).fit(task, DataLoader(Images()))
    assert task.net.value.item() == 0


def test_an_output_of_another_shape_is_refused_rather_than_broadcast(tmp_path):
    class Grey(Offset):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image).mean((2, 3), keepdim=True)

    task = RestorationTask(Grey())
    with pytest.raises(ValueError, match=r"net's output \(shape \(1, 1, 1, 1\)\) must have the target's shape"):
        trainer(tmp_path, max_steps=1).fit(task, DataLoader(Images()))


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


@pytest.mark.parametrize("ema", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_record_says_whether_weights_are_an_average(lowrank: Lowrank, recipe, tmp_path, ema):
    average = ["--trainer.callbacks+", "lightning.pytorch.callbacks.EMAWeightAveraging"] if ema else []
    assert lowrank("fit", "--config", recipe, *average) == 0
    last = next(tmp_path.rglob("last.ckpt"))
    for options in (["--ckpt_path", last], ["--model.pretrained", last]):
        assert lowrank("test", "--config", recipe, *average, *options) == 0
        newest = max(tmp_path.rglob("metrics.json"), key=lambda path: path.stat().st_mtime_ns)
        weights = json.loads(newest.read_text())["weights"]
        assert weights == {"path": str(last), "sha256": digest(last), "ema": ema}


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


def test_the_average_says_over_how_many_of_the_sets():
    scores = [ImageScore(name, "a", {"psnr": 10.0}) for name in ("one", "two")]
    console = Console(width=100)
    with console.capture() as capture:
        console.print(Evaluation(scores, {"psnr": PSNR().protocol}, {"one": 1, "two": 1, "three": 4}).table())
    assert "mean of 2 of 3 sets" in capture.get()
    assert "2 of 6" in capture.get()


def test_names_of_metrics_are_never_cut_short():
    names = ["psnr-bands", "ssim-bands", "psnr-bands-uint8", "ssim-bands-uint8"]
    evaluation = Evaluation([ImageScore("KAIST", "a", dict.fromkeys(names, 0.5))], dict.fromkeys(names, ""), {})
    console = Console(width=60)
    with console.capture() as capture:
        console.print(evaluation.table())
    assert "…" not in capture.get()
    assert capture.get().count("psnr-") == capture.get().count("ssim-") == 2


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


def test_validation_within_training_logs_and_writes_no_record(tmp_path):
    fit = trainer(tmp_path, max_epochs=1)
    fit.fit(RestorationTask(Offset()), DataLoader(Images()), [DataLoader(Images(1)), DataLoader(Images(2))])
    assert {"val/psnr", "val/ssim", "val/val1/psnr", "val/val2/psnr"} <= set(fit.callback_metrics)
    assert "val/psnr" in fit.progress_bar_metrics
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


def test_two_metrics_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"metrics \(psnr, psnr\) must have different names"):
        RestorationTask(Offset(), metrics=[PSNR(), PSNR(border=2)])


def test_a_net_or_weights_are_needed():
    with pytest.raises(ValueError, match=r"net \(null\) must be a network, or pretrained a checkpoint"):
        RestorationTask()


@pytest.fixture
def weights(tmp_path: Path) -> tuple[Path, Restormer]:
    """A small Restormer and the file of its weights."""
    net = Restormer(dim=4, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, heads=[1, 1, 2, 2])
    torch.save({"params": net.state_dict()}, tmp_path / "weights.pth")
    return tmp_path / "weights.pth", net


def test_training_starts_from_pretrained_weights(weights):
    file, trained = weights
    fresh = Restormer(dim=4, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, heads=[1, 1, 2, 2])
    for task in (RestorationTask(fresh, pretrained=file), RestorationTask(pretrained=file)):
        torch.testing.assert_close(dict(task.net.state_dict()), dict(trained.state_dict()), rtol=0, atol=0)
        assert task.net.training


def test_pretrained_weights_of_another_net_are_refused_with_the_difference(weights):
    other = Restormer(dim=4, num_blocks=[1, 2, 1, 1], num_refinement_blocks=1, heads=[1, 1, 2, 2])
    with pytest.raises(
        ValueError, match=r"encoder_level2\.1\.norm1\.body\.weight \(absent where 8 is due\).* and \d+ more"
    ):
        RestorationTask(other, pretrained=weights[0])


def test_the_record_names_the_weights(weights, tmp_path, pairs, lowrank, recipe):
    status = lowrank("test", "--config", recipe, "--model.net", "null", "--model.pretrained", weights[0])
    assert status == 0
    record = json.loads(next(tmp_path.rglob("metrics.json")).read_text())
    assert record["weights"]["path"] == str(weights[0])
    assert len(record["weights"]["sha256"]) == 64
    assert record["seed"] == 3
    assert record["data"] == "PairedFolderDataModule"
    assert record["sets"].keys() == {"test"}


def test_predict_saves_what_test_measures(lowrank: Lowrank, recipe, pairs, tmp_path, weights):
    arguments = ["--config", recipe, "--model.net", "null", "--model.pretrained", weights[0]]
    assert lowrank("predict", *arguments) == 0
    assert lowrank("test", *arguments) == 0
    per_image = json.loads(next(tmp_path.rglob("metrics.json")).read_text())["sets"]["test"]["per_image"]
    images = next(tmp_path.rglob("images/test"))
    assert {path.stem for path in images.iterdir()} == per_image.keys()
    for name, values in per_image.items():
        saved, target = (
            torch.from_numpy(np.moveaxis(read_image(path), 2, 0)[None] / 255)
            for path in (images / f"{name}.png", pairs / "test/target" / f"{name}.png")
        )
        assert psnr(saved, target).item() == pytest.approx(values["psnr"])


def test_scores_of_several_processes_count_each_image_once():
    first, second = (ImageScore("set", name, {"psnr": value}) for name, value in (("b", 20.0), ("a", 30.0)))
    assert gather([first, second, first]) == [second, first]


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


def test_the_average_is_the_mean_of_the_sets_means():
    scores = [ImageScore("one", "a", {"psnr": 10.0}), *(ImageScore("two", name, {"psnr": 20.0}) for name in "bcd")]
    evaluation = Evaluation(scores, {"psnr": PSNR().protocol}, {"one": 1, "two": 3})
    assert evaluation.average() == {"psnr": 15.0}
    assert not evaluation.partial


def test_default_metrics_are_psnr_and_ssim_on_rgb():
    metrics = RestorationTask(Offset()).metrics
    assert [metric.protocol for metric in metrics.values()] == [PSNR().protocol, SSIM().protocol]


def test_a_task_is_loaded_from_a_run_s_checkpoint(tmp_path):
    net = Restormer(dim=4, num_blocks=[1] * 4, num_refinement_blocks=1, heads=[1] * 4)
    training = trainer(tmp_path, max_steps=1)
    training.fit(RestorationTask(net), DataLoader(Photographs()))
    training.save_checkpoint(tmp_path / "run.ckpt")
    loaded = RestorationTask.load_from_checkpoint(tmp_path / "run.ckpt", metrics=[PSNR(border=2)], map_location="cpu")
    torch.testing.assert_close(loaded.net.state_dict(), net.state_dict(), rtol=0, atol=0)
    assert isinstance(loaded.net, Restormer)
    assert [metric.border for metric in loaded.metrics.values()] == [2]
    assert loaded.net.training


def test_a_network_of_any_class_is_loaded_if_it_is_given(tmp_path):
    training = trainer(tmp_path, max_steps=2)
    training.fit(RestorationTask(Offset()), DataLoader(Images()))
    training.save_checkpoint(tmp_path / "run.ckpt")
    loaded = RestorationTask.load_from_checkpoint(tmp_path / "run.ckpt", net=Offset())
    assert loaded.net.value.item() == training.lightning_module.net.value.item() != 0
    with pytest.raises(ValueError, match="must be a checkpoint of the same net"):
        RestorationTask.load_from_checkpoint(tmp_path / "run.ckpt", net=nn.Conv2d(3, 3, 1))
    with pytest.raises(CheckpointError):
        RestorationTask.load_from_checkpoint(tmp_path / "run.ckpt")
