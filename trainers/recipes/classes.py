"""This package's classes that recipes and options can name, by the option that takes them."""

import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module

_FACES = ("glmha", "nystra", "datamodules", "trainers", "trainers.losses", "trainers.schedules", "trainers.metrics")


@dataclass(frozen=True)
class Choice:
    """The classes that an option takes.

    Attributes:
        title: what they are, in the plural.
        base: class path of the class that all of them are of.
        rooms: modules, or packages with all below them, that define this package's own.
        library: pattern of the class paths of libraries that are shown after them.
    """

    title: str
    base: str
    rooms: tuple[str, ...]
    library: str = "(?!)"


CHOICES = {
    "model": Choice("tasks", "lightning.pytorch.LightningModule", ("trainers.tasks",)),
    "data": Choice(
        "data modules",
        "lightning.pytorch.LightningDataModule",
        ("datamodules.restoration", "datamodules.spectral", "datamodules.demo"),
    ),
    "net": Choice("networks", "torch.nn.Module", ("glmha.hosts", "nystra.hosts")),
    "attention": Choice("channel attentions", "torch.nn.Module", ("glmha.attention", "glmha.low_rank")),
    "kernel": Choice("kernels of window attention", "nystra.Kernel", ("nystra.kernels",)),
    "loss": Choice("losses", "torch.nn.Module", ("trainers.losses",), r"torch\.nn\.(L1|MSE|SmoothL1|Huber)Loss"),
    "scheduler": Choice(
        "schedules",
        "torch.optim.lr_scheduler.LRScheduler",
        ("trainers.schedules",),
        r"torch\.optim\.lr_scheduler\.\w+",
    ),
    "metrics": Choice("metrics", "trainers.metrics.ImageMetric", ("trainers.metrics",)),
}
CHOICES["kernels"] = CHOICES["kernel"]


def own_classes(option: str) -> list[str]:
    """Find this package's classes for an option.

    Args:
        option: its path, such as `model.net`; the last word counts.

    Returns:
        Class paths as recipes write them, sorted; empty for an option that takes none of this package.
    """
    choice = CHOICES.get(option.rpartition(".")[2])
    if choice is None:
        return []
    base = _import(choice.base)
    return sorted(
        path
        for path, owner in _public_classes()
        if issubclass(owner, base) and owner is not base and not inspect.isabstract(owner)
        if any(f"{owner.__module__}.".startswith(f"{room}.") for room in choice.rooms)
    )


def listed_classes(option: str, known: Iterable[str]) -> list[str]:
    """Choose the class paths that help shows for an option: this package's own first, then a library's for its purpose.

    Args:
        option: its path, such as `model.loss`.
        known: all class paths that the parser knows to fit.

    Returns:
        All of `known` for an option that takes no class of this package.
    """
    choice = CHOICES.get(option.rpartition(".")[2])
    if choice is None:
        return list(known)
    return [*own_classes(option), *(path for path in known if re.fullmatch(choice.library, path))]


def describe_classes(option: str | None = None) -> str:
    """List this package's classes under the option that takes them, each with the first sentence of its docstring.

    Args:
        option: one of `CHOICES`, or a path that ends in one; None: all options.
    """
    lines = []
    shown = [name for name in CHOICES if name != "kernels"] if option is None else [option.rpartition(".")[2]]
    for name in shown:
        choice, paths = CHOICES[name], own_classes(name)
        lines += [f"{choice.title}:", *(f"  {path}: {_summary(_import(path))}" for path in paths), ""]
    options = (
        "--model.help CLASS, --data.help CLASS, --model.net.help CLASS, …"
        if option is None
        else f"--{option}.help CLASS"
    )
    return "\n".join([*lines, f"Options of one: {options}"])


def _public_classes() -> Iterator[tuple[str, type]]:
    for face in map(import_module, _FACES):
        names = getattr(face, "__all__", None) or [name for name in vars(face) if not name.startswith("_")]
        for name in names:
            owner = getattr(face, name)
            if inspect.isclass(owner):
                yield f"{face.__name__}.{name}", owner


def _import(path: str) -> type:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _summary(owner: type) -> str:
    return (inspect.getdoc(owner) or "").partition("\n")[0]
