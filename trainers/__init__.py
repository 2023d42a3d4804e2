"""Tasks, metrics, losses and the command line."""

from trainers.restoration import NonFiniteError, RestorationTask

__all__ = ["NonFiniteError", "RestorationTask"]
