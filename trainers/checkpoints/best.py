"""The checkpoints with the best validation score."""

import logging
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from trainers.checkpoints.folders import beside
from trainers.errors import nearest

_logger = logging.getLogger(__name__)


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoints with the best validation score.

    Args:
        monitor: name of the logged score.
        mode: whether a larger score is better ("max") or a smaller one ("min").
        save_top_k: how many to keep; 0 keeps none, -1 all.

    Raises:
        ValueError: if the first validation, which is the check before training, logs no such score.
    """

    # Set by the base class.
    monitor: str

    def __init__(self, monitor: str = "val/psnr", mode: str = "max", save_top_k: int = 1) -> None:
        super().__init__(
            monitor=monitor,
            mode=mode,
            save_top_k=save_top_k,
            filename="best-{step}",
            # The default would save at the end of an epoch, with the score of an earlier validation.
            save_on_train_epoch_end=False,
        )
        self._resumed_from = Path()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note where the checkpoint is."""
        self._resumed_from = Path(trainer.ckpt_path or "").absolute()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with the scores before a run was resumed, whose files are left where they are."""
        kept, missing = {}, []
        for path, score in state_dict["best_k_models"].items():
            places = (Path(path), beside(self._resumed_from, Path(path)))
            found = next((place for place in places if place.is_file()), None)
            if found is None:
                missing.append(f"{path} ({self.monitor} {float(score):.4g})")
            else:
                # Lightning deletes what lies in the run's own folder, and would take `folder/../elsewhere` for that.
                kept[str(found.resolve())] = score
        if missing:
            _logger.warning(
                "best checkpoints of the run that is resumed are gone, and their scores count no more: %s",
                ", ".join(missing),
            )
        if missing and not kept:
            return
        # Lightning would forget them in another folder. It deletes files in its own only.
        state_dict = {**state_dict, "dirpath": self.dirpath, "best_k_models": kept}
        if kept:
            ordered = sorted(kept, key=lambda path: float(kept[path]), reverse=self.mode == "max")
            state_dict |= {"best_model_path": ordered[0], "best_model_score": kept[ordered[0]]}
            state_dict |= {"kth_best_model_path": ordered[-1], "kth_value": kept[ordered[-1]]}
        super().load_state_dict(state_dict)

    def start_again(self) -> None:
        """Compare with no earlier score any more, as of another network; files that were kept stay."""
        self.best_k_models = {}
        self.best_model_path = self.kth_best_model_path = ""
        self.best_model_score = self.current_score = None
        self.kth_value = torch.tensor(torch.inf if self.mode == "min" else -torch.inf)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if the validation that just ended is among the best.

        Raises:
            ValueError: if it logged no score of that name.
        """
        if trainer.state.fn == TrainerFn.FITTING and self.save_top_k and self.monitor not in trainer.callback_metrics:
            logged = [name for name in trainer.callback_metrics if not name.startswith("train/")]
            raise ValueError(
                f"best_checkpoint.monitor ({self.monitor}) must be a validation score, got "
                f"{', '.join(logged) or 'none'}{nearest(self.monitor, logged)} "
                "(--best_checkpoint.save_top_k 0 keeps no best checkpoint)"
            )
        super().on_validation_end(trainer, pl_module)
