"""Options of runs: which differ from their defaults, and which between runs."""

import inspect
import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from trainers.checkpoints.best import BestCheckpoint
from trainers.checkpoints.last import LastCheckpoint
from trainers.monitoring.attention import AttentionWatcher
from trainers.reports.page.content import Block, Folded, Table
from trainers.reports.tables import Column
from trainers.runs.configuration import flatten
from trainers.runs.listing import Listed
from trainers.runs.record import RunRecord

# The only modules that are imported because an option names a class in them.
_FACES = (
    *("glmha", "glmha.attention", "glmha.conventions", "nystra", "nystra.kernels", "datamodules"),
    *("datamodules.degradations", "trainers", "trainers.losses", "trainers.metrics", "trainers.schedules"),
    *("torch.nn", "torch.optim", "torch.optim.lr_scheduler"),
)
_PARTS = {
    "best_checkpoint": BestCheckpoint,
    "last_checkpoint": LastCheckpoint,
    "watch": AttentionWatcher,
    "run": RunRecord,
}
_NO_DEFAULT = object()
# Chosen by the command itself, or of no consequence.
_PASSED_OVER = ("config", "ckpt_path", "weights_only", "trainer.logger", "trainer.plugins", "trainer.callbacks")
_COMMAND_DEFAULTS = {"seed_everything": 0, "max_batch_per_device": None, "ema_decay": None}
_TRAINER_DEFAULTS = {"enable_model_summary": False}
_MOST_RUNS = 12


def options_of_run(configuration: Mapping[str, Any]) -> list[Block]:
    """Tables of a run's options: those that differ from their defaults, and all of them, folded.

    Args:
        configuration: values of all options, from recipe and command line.
    """
    changed = [
        {"option": option, "value": _written(value), "default": default}
        for option, value, default in changed_options(configuration)
    ]
    every = [{"option": option, "value": _written(value)} for option, value in flatten(configuration).items()]
    columns = (Column("option", "option"), Column("value", "value"), Column("default", "default"))
    blocks: list[Block] = []
    if changed:
        blocks.append(Table("Options that differ from their defaults", columns, changed))
    blocks.append(Folded(f"All {len(every)} options", [Table("All options", columns[:2], every)]))
    return blocks


def options_of_runs(runs: Mapping[str, Listed]) -> list[Block]:
    """A table of the options in which runs differ, a column for each run.

    Args:
        runs: name → run.
    """
    shown = dict(list(runs.items())[-_MOST_RUNS:])
    options = sorted({option for run in shown.values() for option in run.differences})
    columns = [Column("option", "option"), *(Column(name, f"run {index}") for index, name in enumerate(shown))]
    rows = []
    for option in options:
        row = {"option": option}
        for index, run in enumerate(shown.values()):
            if option in run.differences:
                row[f"run {index}"] = _written(run.differences[option])
        rows.append(row)
    notes = [f"The {_MOST_RUNS} newest of {len(runs)} runs."] if len(shown) < len(runs) else []
    return [Table("Options that are not the same in all runs", columns, rows, notes)] if rows else []


def changed_options(configuration: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Find the options whose values are not their defaults: path, value, default as it is shown.

    Of classes of others the defaults are not known, because nothing of theirs is imported: all their options count.

    Args:
        configuration: values of all options.
    """
    # Lightning takes seconds to import, and only its signature is wanted.
    from lightning.pytorch import Trainer

    for name, value in configuration.items():
        if name == "trainer" and isinstance(value, Mapping):
            yield from _of_arguments(value, _defaults(Trainer) | _TRAINER_DEFAULTS, "trainer")
        elif name in _PARTS and isinstance(value, Mapping):
            yield from _of_arguments(value, _defaults(_PARTS[name]), name)
        else:
            yield from _of_value(name, value, _COMMAND_DEFAULTS.get(name, _NO_DEFAULT))


def _of_value(path: str, value: Any, default: Any) -> Iterator[tuple[str, Any, str]]:
    if path in _PASSED_OVER:
        return
    if isinstance(value, Mapping) and isinstance(value.get("class_path"), str):
        owner = _owner(value["class_path"])
        # A class as the default of an option stands for itself with its own defaults.
        if default is _NO_DEFAULT or getattr(default, "__name__", None) != value["class_path"].rpartition(".")[2]:
            yield path, value["class_path"], _shown(default)
        arguments = value.get("init_args")
        if isinstance(arguments, Mapping):
            yield from _of_arguments(arguments, {} if owner is None else _defaults(owner), path)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _of_value(f"{path}.{index}", item, _NO_DEFAULT)
    elif isinstance(value, Mapping):
        yield from _of_arguments(value, {}, path)
    elif default is _NO_DEFAULT or _plain(value) != _plain(default):
        yield path, value, _shown(default)


def _of_arguments(values: Mapping[str, Any], defaults: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any, str]]:
    for name, value in values.items():
        yield from _of_value(f"{path}.{name}", value, defaults.get(name, _NO_DEFAULT))


def _owner(class_path: str) -> Any:
    module, _, name = class_path.rpartition(".")
    return getattr(import_module(module), name, None) if module in _FACES else None


def _defaults(owner: Any) -> dict[str, Any]:
    """Name → default of a class's arguments, those of its base classes included."""
    found: dict[str, Any] = {}
    for base in reversed(getattr(owner, "__mro__", ())):
        if "__init__" in vars(base):
            found |= {
                name: parameter.default
                for name, parameter in inspect.signature(base.__init__).parameters.items()
                if parameter.default is not inspect.Parameter.empty
            }
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool | None):
        return value
    return float(value) if isinstance(value, int | float) else str(value)


def _shown(default: Any) -> str:
    if default is _NO_DEFAULT:
        return ""
    return default.__name__ if inspect.isclass(default) else _written(default)


def _written(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    return value if isinstance(value, str) else json.dumps(value, default=str)
