"""The one reader of checkpoints, given to every trainer."""

from lightning.pytorch import Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import Strategy

from trainers.checkpoints.atomic_io import AtomicCheckpointIO
from trainers.devices.sharding import FullySharded


def read_by_this(trainer: Trainer) -> None:
    """Let a trainer read checkpoints as data only, whatever its options say.

    Raises:
        ValueError: if a plugin or strategy of its options has a reader of its own, naming the one to choose.
    """
    strategy = trainer.strategy
    reader = next(kind for kind in type(strategy).__mro__ if "load_checkpoint" in vars(kind))
    if reader not in (Strategy, FullySharded):
        raise ValueError(
            f"trainer.strategy ({type(strategy).__name__}) must leave the reading of checkpoints to this package, "
            "which executes nothing: choose auto, ddp or fully_sharded"
        )
    if type(strategy.checkpoint_io) is TorchCheckpointIO:
        strategy.checkpoint_io = AtomicCheckpointIO()
    if not isinstance(strategy.checkpoint_io, AtomicCheckpointIO):
        raise ValueError(
            f"trainer.plugins ({type(strategy.checkpoint_io).__name__}) must leave checkpoints to "
            "trainers.checkpoints.AtomicCheckpointIO, which executes nothing: leave that plugin out"
        )
