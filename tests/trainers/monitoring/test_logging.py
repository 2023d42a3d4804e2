"""Which values of training are logged, and at which steps."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader

from trainers import RestorationTask
from trainers.monitoring.throughput import Throughput

pytestmark = pytest.mark.filterwarnings(
    "ignore:The 'train_dataloader' does not have many workers", "ignore:You defined a `validation_step`"
)


class Groups(RestorationTask):
    """Trains bias and weight at rates of their own, the second group with a name."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = [
            {"params": [self.net.weight], "lr": 1e-3},
            {"params": [self.net.bias], "lr": 1e-2, "name": "bias"},
        ]
        return torch.optim.SGD(groups)


def train(task: RestorationTask, folder: Path, **options: int) -> list[dict[str, str]]:
    """Log four steps; the rows of the CSV file."""
    logger = CSVLogger(folder, name="", version="")
    trainer = Trainer(
        accelerator="cpu",
        max_steps=4,
        logger=logger,
        callbacks=[Throughput()],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **options,
    )
    image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    sample = {"input": image, "target": 1 - image, "name": "pair"}
    trainer.fit(task, DataLoader([sample] * 8))
    lines = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def test_every_group_has_its_rate_and_its_norm(tmp_path):
    torch.manual_seed(0)
    rows = train(Groups(nn.Conv2d(3, 3, 1)), tmp_path, log_every_n_steps=1)
    for row in rows:
        assert float(row["train/learning_rate"]) == float(row["train/learning_rate/0"]) == pytest.approx(1e-3)
        assert float(row["train/learning_rate/bias"]) == pytest.approx(1e-2)
        norms = [float(row[f"train/gradient_norm/{name}"]) for name in ("0", "bias")]
        assert min(norms) > 0
        assert float(row["train/gradient_norm"]) == pytest.approx((norms[0] ** 2 + norms[1] ** 2) ** 0.5, rel=1e-4)


def test_one_group_has_no_number(tmp_path):
    rows = train(RestorationTask(nn.Conv2d(3, 3, 1)), tmp_path, log_every_n_steps=1)
    assert {name for name in rows[0] if name.startswith("train/")} == {
        "train/loss",
        "train/gradient_norm",
        "train/learning_rate",
        "train/samples_per_second",
        "train/data_wait",
        "train/memory_mib",
    }


@pytest.mark.parametrize("accumulated", [1, 2])
def test_what_is_logged_now_and_then_is_logged_at_one_step(tmp_path, accumulated):
    task = RestorationTask(nn.Conv2d(3, 3, 1))
    rows = train(task, tmp_path, log_every_n_steps=2, accumulate_grad_batches=accumulated)
    assert [row["step"] for row in rows] == ["1", "3"]
    for row in rows:
        assert all(row[name] for name in ("train/loss", "train/gradient_norm", "train/samples_per_second"))
