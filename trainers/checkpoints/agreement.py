"""One checkpoint for all processes of a run."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class SameCheckpoint(Callback):
    """Refuses to go on where the processes of a run have found different checkpoints for `last`, `best` or `auto`.

    Each looks for itself, before they know of each other, and another run may have saved one in between, also under
    the same name. Then the file is the same and its steps are not.

    Raises:
        ValueError: in all processes, with the checkpoint of the first one.
    """

    _step: int | None = None  # of the checkpoint that this process has read

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note which checkpoint of that name it is."""
        self._step = checkpoint.get("global_step")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare before the first step."""
        self._compare(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare before images are scored."""
        self._compare(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare before images are scored."""
        self._compare(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare before images are saved."""
        self._compare(trainer)

    def _compare(self, trainer: Trainer) -> None:
        if trainer.world_size == 1:
            return
        own = None if trainer.ckpt_path is None else f"{trainer.ckpt_path}, step {self._step}"
        first = trainer.strategy.broadcast(own)
        if not trainer.strategy.reduce_boolean_decision(own == first, all=True):
            raise ValueError(
                f"ckpt_path ({own}) must be the same checkpoint in all processes, got {first} in the first one: "
                "another run saved one meanwhile; wait for its end, or give a file that does not change"
            )
