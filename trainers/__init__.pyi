from .devices.sharding import FullySharded as FullySharded
from .errors import NonFiniteError as NonFiniteError
from .recipes.training import FinishedRun as FinishedRun
from .recipes.training import run as run
from .runtimes.export import ExportedGraph as ExportedGraph
from .runtimes.export import export as export
from .tasks.mixup import Mixup as Mixup
from .tasks.restoration import RestorationTask as RestorationTask
from .tasks.spectral import SpectralTask as SpectralTask
from .tasks.substitution import SubstitutionTask as SubstitutionTask
from .tasks.warm_start import WarmStartTask as WarmStartTask
from .tiling.arrays import restore as restore

__all__ = [
    "ExportedGraph",
    "FinishedRun",
    "FullySharded",
    "Mixup",
    "NonFiniteError",
    "RestorationTask",
    "SpectralTask",
    "SubstitutionTask",
    "WarmStartTask",
    "export",
    "restore",
    "run",
]
