"""The task: what is optimised, what stops it, and the weights that it begins with."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datamodules.files.images import read_image
from glmha import Restormer
from glmha.shared.checkpoint_files import CheckpointError
from tests.trainers.tasks.one_value import Images, Offset, Photographs, trainer
from trainers import NonFiniteError, RestorationTask
from trainers.metrics import PSNR, SSIM, psnr

Lowrank = Callable[..., int]


pytestmark = pytest.mark.filterwarnings(
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated",  # within Lightning
    "ignore:The '.*_dataloader' does not have many workers",  # tests need none
    "ignore:You defined a `validation_step` but have no",  # nor validation
)


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


def test_validation_within_training_logs_and_writes_no_record(tmp_path):
    fit = trainer(tmp_path, max_epochs=1)
    fit.fit(RestorationTask(Offset()), DataLoader(Images()), [DataLoader(Images(1)), DataLoader(Images(2))])
    assert {"val/psnr", "val/ssim", "val/val1/psnr", "val/val2/psnr"} <= set(fit.callback_metrics)
    assert "val/psnr" in fit.progress_bar_metrics
    assert not (tmp_path / "metrics.json").exists()


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
