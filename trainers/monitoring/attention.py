"""Curves of a network's attention as training goes, taken from one image of every validation."""

from collections.abc import Callable, Collection, Mapping, Sequence
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
from nystra.sites.site import Site, sites_of
from nystra.windows.geometry import WindowGeometry
from trainers.tasks.base import ImageTask

SHARE = 0.99
"""Share of the spectrum's energy whose number of singular values is logged."""

Module = TypeVar("Module", bound=nn.Module)
Watched = TypeVar("Watched")
Write = Callable[[SummaryWriter, int], None]


class AttentionWatcher(Callback):
    """Logs to TensorBoard what attention does on the first image of the first validation set.

    - `watch/energy/<module>`: share of the energy (squared singular values) of a channel attention's matrix that the
      first half of its singular values holds. Attention of reduced rank has none, because it is 1 there throughout.
    - `watch/rank/<module>`: how many singular values hold 99 % of the energy, as a share of all.
    - `watch/calibration/<module>`: histogram of a GLMHA's calibration vector a, in (-1, 1) (GLMHA, Eq. 4).
    - `watch/kernel_error/<module>`: relative error of the outputs of a window attention whose kernel is not exact,
      against exact attention on the same queries, keys and values.

    The tags sort after those of training and validation, with which TensorBoard then opens. Watching happens while the
    image is validated, and changes neither weights nor random numbers. It costs less than restoring that image again.

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
        """Begin to watch on the first image of a validation, if it is the validation's turn."""
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
        """Log the values of a watched image."""
        self._watched.close()
        for write in self._writes:
            for writer in writers(trainer):
                write(writer, trainer.global_step)
        self._writes = []

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove all hooks from the network."""
        self._watched.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the number of validations, so that a resumed run keeps the rhythm."""
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the number of validations from a checkpoint."""
        self._validations = state_dict["validations"]

    def _watch(self, net: nn.Module) -> None:
        """Install hooks, and collect functions that write their values once the image has been restored."""
        channels = evenly_chosen(named(net, ChannelAttention), self.sites)
        if channels:
            energies = self._watched.enter_context(spectrum.recorded(net, channels))
            full = {name for name, module in channels.items() if module.key_channels == module.channels}
            self._writes.append(lambda writer, step: _write_spectra(writer, step, energies, full))
        for name, calibration in evenly_chosen(named(net, Calibration), self.sites).items():
            self._watch_calibration(name, calibration)
        windows = sites_of(net)
        approximated = {name: site for name, site in windows.items() if not isinstance(site.kernel, Softmax)}
        if approximated:
            self._watch_kernels(evenly_chosen(approximated, self.sites))

    def _watch_calibration(self, name: str, calibration: nn.Module) -> None:
        vectors: list[Tensor] = []
        handle = calibration.register_forward_hook(lambda _module, _inputs, output: vectors.append(output.detach()))
        self._watched.callback(handle.remove)

        def write(writer: SummaryWriter, step: int) -> None:
            if vectors:
                writer.add_histogram(f"watch/calibration/{name}", torch.cat(vectors).float(), step)

        self._writes.append(write)

    def _watch_kernels(self, sites: dict[str, Site]) -> None:
        kernels = {name: site.kernel for name, site in sites.items()}
        errors: dict[str, float] = {}

        def compare(name: str, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry) -> None:
            # An image in tiles is compared on its first tile.
            if name not in errors:
                errors[name] = kernel_error(kernels[name], query, key, value, geometry)

        self._watched.enter_context(observed(sites, compare))

        def write(writer: SummaryWriter, step: int) -> None:
            for name, error in errors.items():
                writer.add_scalar(f"watch/kernel_error/{name}", error, step)

        self._writes.append(write)


def named(net: nn.Module, kind: type[Module]) -> dict[str, Module]:
    """Find a net's modules of a class, by name."""
    return {name: module for name, module in net.named_modules() if isinstance(module, kind)}


def evenly_chosen(modules: Mapping[str, Watched], number: int) -> dict[str, Watched]:
    """Choose at most `number` of some modules or sites, evenly spread, the first and the last among them."""
    names = list(modules)
    places = torch.linspace(0, len(names) - 1, min(len(names), number)).round().long()
    return {names[place]: modules[names[place]] for place in places.tolist()}


def writers(trainer: Trainer) -> list[SummaryWriter]:
    """Return the TensorBoard writers of a run, none if it has no such logger."""
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def _write_spectra(
    writer: SummaryWriter, step: int, energies: Mapping[str, Sequence[Tensor]], full: Collection[str]
) -> None:
    for name, rows in energies.items():
        if rows:
            energy = torch.cat(list(rows)).mean(0)
            if name in full:
                writer.add_scalar(f"watch/energy/{name}", energy[(len(energy) + 1) // 2 - 1], step)
            writer.add_scalar(f"watch/rank/{name}", spectrum.rank_for_energy(energy, SHARE) / len(energy), step)
