"""Tasks, metrics, losses and the command line."""

from trainers.errors import NonFiniteError
from trainers.restoration import RestorationTask
from trainers.spectral import SpectralTask

__all__ = ["NonFiniteError", "RestorationTask", "SpectralTask"]
