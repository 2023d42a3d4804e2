from .atomic_io import AtomicCheckpointIO as AtomicCheckpointIO
from .atomic_io import CheckpointWriteError as CheckpointWriteError
from .best import BestCheckpoint as BestCheckpoint
from .last import LastCheckpoint as LastCheckpoint
