"""One checkpoint for all processes of a run."""

from lightning.pytorch import Callback, LightningModule, Trainer


class SameCheckpoint(Callback):
    """Refuses to go on where the processes of a run have found different checkpoints for `last`, `best` or `auto`.

    Each looks for itself, before they know of each other, and another run may have saved one in between.

    Raises:
        ValueError: in all processes, with the checkpoint of the first one.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare before the first step."""
        _compare(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare before images are scored."""
        _compare(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare before images are scored."""
        _compare(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare before images are saved."""
        _compare(trainer)


def _compare(trainer: Trainer) -> None:
    if trainer.world_size == 1:
        return
    own = None if trainer.ckpt_path is None else str(trainer.ckpt_path)
    first = trainer.strategy.broadcast(own)
    if not trainer.strategy.reduce_boolean_decision(own == first, all=True):
        raise ValueError(
            f"ckpt_path ({own}) must be the same file in all processes, got {first} in the first one: another run "
            "saved a checkpoint meanwhile; give the file itself"
        )
