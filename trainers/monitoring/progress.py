"""The progress bar of a run on a terminal or in a notebook."""

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import CustomTimeColumn
from lightning.pytorch.trainer.states import TrainerFn

from trainers.monitoring.lines import can_redraw, describe_epoch, training_values
from trainers.monitoring.throughput import throughput


class ProgressBar(RichProgressBar):
    """Draws Lightning's bar with the time left of the run, loss, learning rate, scores, speed and memory.

    It is drawn twice a second instead of at every step, which cost a small network as much as a tenth of its time.
    Where nothing can be redrawn it stays away: `ProgressLines` prints lines there.

    Args:
        redraws_per_second: >= 1.

    Raises:
        ValueError: if the number is out of range.
    """

    def __init__(self, redraws_per_second: int = 2) -> None:
        if redraws_per_second < 1:
            raise ValueError(
                f"redraws_per_second ({redraws_per_second}) must be at least 1; to have no progress, "
                "--trainer.enable_progress_bar false"
            )
        super().__init__(refresh_rate=redraws_per_second)
        self._due = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stay away where nothing can be redrawn."""
        super().setup(trainer, pl_module, stage)
        if not can_redraw():
            self.disable()

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """Leave out the time left of an epoch in training, where the run's own is shown."""
        columns = super().configure_columns(trainer)
        fitting = trainer.state.fn == TrainerFn.FITTING
        return [column for column in columns if not (fitting and isinstance(column, CustomTimeColumn))]

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the values beside the bar, by name."""
        if throughput(trainer) is not None and trainer.state.fn == TrainerFn.FITTING:
            return training_values(trainer, pl_module)
        metrics: dict[str, Any] = super().get_metrics(trainer, pl_module)
        # The number of the log folder.
        metrics.pop("v_num", None)
        return metrics

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw the bar again if it is time, and at the end of an epoch, so that its bar ends full."""
        if time.monotonic() >= self._due or batch_idx + 1 == self.total_train_batches:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            self._due = time.monotonic() + 1 / self.refresh_rate

    def _get_train_description(self, current_epoch: int) -> str:
        return describe_epoch(self.trainer, current_epoch)
