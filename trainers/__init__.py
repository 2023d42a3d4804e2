"""Tasks, metrics, losses and the command line."""

from trainers.errors import NonFiniteError
from trainers.restoration import RestorationTask

__all__ = ["NonFiniteError", "RestorationTask"]
