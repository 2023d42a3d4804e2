"""Tasks, metrics, losses and the command line."""

from trainers.errors import NonFiniteError
from trainers.mixup import Mixup
from trainers.restoration import RestorationTask
from trainers.sharding import FullySharded
from trainers.spectral import SpectralTask
from trainers.substitution import SubstitutionTask
from trainers.warm_start import WarmStartTask

__all__ = [
    "FullySharded",
    "Mixup",
    "NonFiniteError",
    "RestorationTask",
    "SpectralTask",
    "SubstitutionTask",
    "WarmStartTask",
]
