"""What becomes of a network's attention as training goes, seen on one image of every validation."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from glmha import spectrum
from glmha.attention.base import ChannelAttention
from glmha.low_rank.glmha import Calibration
from nystra.analysis.kernel_error import kernel_error
from nystra.kernels.softmax import Softmax
from nystra.sites.observation import observed
from nystra.sites.site import WindowAttention
from nystra.windows.geometry import WindowGeometry
from trainers.tasks.base import ImageTask

SHARE = 0.99
"""Of the spectrum's energy: how many singular values hold it is logged."""

Module = TypeVar("Module", bound=nn.Module)
Write = Callable[[SummaryWriter, int], None]


class AttentionWatcher(Callback):
    """Logs to TensorBoard what attention does on the first image of the first validation set.

    - `spectrum/energy/<module>`: share of the energy (squared singular values) of a channel attention's matrix that the
      first half of its singular values holds; `spectrum/rank/<module>`: how many of them hold 99 %, as a share of all.
    - `calibration/<module>`: histogram of a GLMHA's calibration vector a, in (-1, 1) (GLMHA, Eq. 4).
    - `kernel_error/<module>`: relative error of the outputs of a window attention whose kernel is not exact, against
      exact attention on the same queries, keys and values.

    It looks on while the image is validated, and changes neither weights nor random numbers. What it costs is less
    than that image's restoration once more.

    Args:
        every_n_validations: 1 watches each, 0 none.
        sites: attentions that are watched at most, evenly spread over the network, >= 1.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(self, every_n_validations: int = 1, sites: int = 6) -> None:
        if every_n_validations < 0 or sites < 1:
            raise ValueError(
                f"watch.every_n_validations ({every_n_validations}) must be at least 0 and watch.sites ({sites}) at "
                "least 1; to watch nothing, --watch.every_n_validations 0"
            )
        self.every_n_validations = every_n_validations
        self.sites = sites
        self._validations = 0
        self._watched = ExitStack()
        self._writes: list[Write] = []

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Begin to watch, if it is the first image and its turn."""
        if batch_idx or dataloader_idx or trainer.sanity_checking or not self.every_n_validations:
            return
        self._validations += 1
        due = (self._validations - 1) % self.every_n_validations == 0
        if due and isinstance(pl_module, ImageTask) and trainer.is_global_zero and writers(trainer):
            self._watch(pl_module.net)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Log what was seen."""
        self._watched.close()
        for write in self._writes:
            for writer in writers(trainer):
                write(writer, trainer.global_step)
        self._writes = []

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the network as it was."""
        self._watched.close()

    def state_dict(self) -> dict[str, Any]:
        """How many validations there were, so that a resumed run keeps the rhythm."""
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._validations = state_dict["validations"]

    def _watch(self, net: nn.Module) -> None:
        """Collect what is to be written by functions that are called once the image has been restored."""
        channels = spread(named(net, ChannelAttention), self.sites)
        if channels:
            energies = self._watched.enter_context(spectrum.recorded(net, channels))
            self._writes.append(lambda writer, step: _write_spectra(writer, step, energies))
        for name, calibration in spread(named(net, Calibration), self.sites).items():
            self._watch_calibration(name, calibration)
        windows = named(net, WindowAttention)
        approximated = {name: site for name, site in windows.items() if not isinstance(site.kernel, Softmax)}
        if approximated:
            self._watch_kernels(spread(approximated, self.sites))

    def _watch_calibration(self, name: str, calibration: nn.Module) -> None:
        vectors: list[Tensor] = []
        handle = calibration.register_forward_hook(lambda _module, _inputs, output: vectors.append(output.detach()))
        self._watched.callback(handle.remove)

        def write(writer: SummaryWriter, step: int) -> None:
            if vectors:
                writer.add_histogram(f"calibration/{name}", torch.cat(vectors).float(), step)

        self._writes.append(write)

    def _watch_kernels(self, sites: dict[str, WindowAttention]) -> None:
        kernels = {name: site.kernel for name, site in sites.items()}
        errors: dict[str, float] = {}

        def compare(name: str, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry) -> None:
            # Of an image in tiles, the first one.
            if name not in errors:
                errors[name] = kernel_error(kernels[name], query, key, value, geometry)

        self._watched.enter_context(observed(sites, compare))

        def write(writer: SummaryWriter, step: int) -> None:
            for name, error in errors.items():
                writer.add_scalar(f"kernel_error/{name}", error, step)

        self._writes.append(write)


def named(net: nn.Module, kind: type[Module]) -> dict[str, Module]:
    """A net's modules of a kind, by name."""
    return {name: module for name, module in net.named_modules() if isinstance(module, kind)}


def spread(modules: Mapping[str, Module], number: int) -> dict[str, Module]:
    """At most so many of some modules, evenly spread, the first and the last among them."""
    names = list(modules)
    places = torch.linspace(0, len(names) - 1, min(len(names), number)).round().long()
    return {names[place]: modules[names[place]] for place in places.tolist()}


def writers(trainer: Trainer) -> list[SummaryWriter]:
    """What writes to TensorBoard, if anything does."""
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def _write_spectra(writer: SummaryWriter, step: int, energies: Mapping[str, Sequence[Tensor]]) -> None:
    for name, rows in energies.items():
        if rows:
            energy = torch.cat(list(rows)).mean(0)
            half = energy[(len(energy) + 1) // 2 - 1]
            writer.add_scalar(f"spectrum/energy/{name}", half, step)
            writer.add_scalar(f"spectrum/rank/{name}", spectrum.rank_for_energy(energy, SHARE) / len(energy), step)
