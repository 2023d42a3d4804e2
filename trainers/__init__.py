"""Tasks, metrics, losses and the command line."""

from trainers.errors import NonFiniteError
from trainers.restoration import RestorationTask
from trainers.spectral import SpectralTask
from trainers.substitution import SubstitutionTask

__all__ = ["NonFiniteError", "RestorationTask", "SpectralTask", "SubstitutionTask"]
