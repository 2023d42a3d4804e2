"""The progress of a run: a bar on a terminal, a line now and then in a log file."""

import math
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console

from trainers.monitoring.throughput import memory, throughput


class ProgressBar(RichProgressBar):
    """Loss, score of the last validation, samples a second, share of time that data are waited for, memory.

    On a terminal it is Lightning's bar, drawn twice a second instead of at every step, which cost a small network as
    much as a tenth of its time. Where nothing can be redrawn there is a line after every validation, and now and then.

    Args:
        redraws_per_second: on a terminal, >= 1.
        seconds_per_line: elsewhere, between lines, > 0.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(self, redraws_per_second: int = 2, seconds_per_line: float = 60.0) -> None:
        if redraws_per_second < 1 or not seconds_per_line > 0:
            raise ValueError(
                f"redraws_per_second ({redraws_per_second}) must be at least 1 and seconds_per_line "
                f"({seconds_per_line}) above 0; to have no progress, --trainer.enable_progress_bar false"
            )
        super().__init__(refresh_rate=redraws_per_second)
        self._seconds_per_line = seconds_per_line
        self._due = 0.0
        self._lines = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See what there is to draw on."""
        super().setup(trainer, pl_module, stage)
        console = Console()
        self._lines = not (console.is_terminal or console.is_jupyter)
        if self._lines:
            self.disable()
        self._put_off()

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Values by name."""
        metrics: dict[str, Any] = super().get_metrics(trainer, pl_module)
        # The number of the log folder.
        metrics.pop("v_num", None)
        measured = throughput(trainer)
        if measured is None or trainer.state.fn != TrainerFn.FITTING or not measured.seconds:
            return metrics
        # Of every step, not of those alone that are logged.
        metrics = {"train/loss": measured.loss} | {name: metrics[name] for name in metrics if name != "train/loss"}
        return {
            **{name: f"{value:.4g}" for name, value in metrics.items()},
            "samples/s": f"{measured.samples_per_second:.3g}",
            "data wait": f"{100 * measured.data_wait:.0f} %",
            "memory": f"{memory(pl_module.device) / 2**20:.0f} MiB",
        }

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the new values, if it is time."""
        if not self._is_due(batch_idx + 1 == self.total_train_batches):
            return
        if self._lines:
            self._say_step(trainer, pl_module)
        else:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._put_off()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the new values."""
        super().on_validation_end(trainer, pl_module)
        if self._lines and trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._say_step(trainer, pl_module)
            self._put_off()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show how far it is, if it is time."""
        super().on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        self._say_images(trainer, "validation", batch_idx, trainer.num_val_batches[dataloader_idx])

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show how far it is, if it is time."""
        super().on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        self._say_images(trainer, "test", batch_idx, trainer.num_test_batches[dataloader_idx])

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show how far it is, if it is time."""
        super().on_predict_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        self._say_images(trainer, "prediction", batch_idx, trainer.num_predict_batches[dataloader_idx])

    def _is_due(self, last: bool) -> bool:
        # The bar of an epoch ends full.
        return time.monotonic() >= self._due or (last and not self._lines)

    def _put_off(self) -> None:
        self._due = time.monotonic() + (self._seconds_per_line if self._lines else 1 / self.refresh_rate)

    def _say_step(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            last = f" of {trainer.max_steps}" if trainer.max_steps > 0 else ""
            epoch = self._get_train_description(trainer.current_epoch).lower()
            values = ", ".join(f"{name} {value}" for name, value in self.get_metrics(trainer, pl_module).items())
            print(f"step {trainer.global_step}{last}, {epoch}: {values}", flush=True)

    def _say_images(self, trainer: Trainer, stage: str, batch_idx: int, total: float) -> None:
        if self._lines and time.monotonic() >= self._due:
            if trainer.is_global_zero:
                print(f"{stage}: {batch_idx + 1} of {total:.0f} batches", flush=True)
            self._put_off()

    def _get_train_description(self, current_epoch: int) -> str:
        # Lightning counts epochs from 0 and shows -2 as the last where a recipe counts steps.
        trainer = self.trainer
        steps = trainer.num_training_batches / trainer.accumulate_grad_batches
        last = trainer.max_epochs if trainer.max_epochs != -1 else math.ceil(trainer.max_steps / steps)
        return f"Epoch {current_epoch + 1}/{last}" if last is not None and last > 0 else f"Epoch {current_epoch + 1}"
