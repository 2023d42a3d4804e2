"""Differences between the configurations of two runs, and those that forbid to resume one from the other."""

import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Configuration = Mapping[str, Any]
"""Values of all options of a run, from recipe and command line, as `config.yaml` holds them."""

TRAINER_KEYS = ("precision", "gradient_clip_val", "gradient_clip_algorithm", "limit_train_batches", "overfit_batches")
"""Options of the trainer that the weights depend on. A recipe's `batch_size` is the samples of a step, on whatever
devices and in however many accumulated batches: those may change."""
HARMLESS = {
    "model": {
        "tile",
        "overlap",
        "logged_images",
        "metrics",
        "save_tests",
        "self_ensemble",
        "checkpoint_activations",
        "compile_backend",
    },
    "data": {"num_workers", "preload", "eval_size", "val_images", "val_sets", "test_sets"},
}
"""Options of task and data that the weights do not depend on."""


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Name every value by its path: `model.init_args.net.class_path`, `data.init_args.stages.0.start`."""
    items: Iterator[tuple[Any, Any]]
    if isinstance(value, Mapping):
        items = iter(value.items())
    elif isinstance(value, list | tuple):
        items = iter(enumerate(value))
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in items:
        flat |= flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat


def decisive(configuration: Configuration) -> dict[str, Any]:
    """Return the part of a configuration that a resumed run must share with the run that it continues.

    Files and folders may have been moved: of the model's only the name counts, of the data's nothing.

    Args:
        configuration: see `Configuration`.

    Returns:
        Value by path, without the words `class_path` and `init_args`.
    """
    chosen = {key: configuration.get(key) for key in ("seed_everything", "ema_decay")}
    trainer = configuration.get("trainer") or {}
    chosen |= {f"trainer.{key}": trainer.get(key) for key in TRAINER_KEYS}
    for callback in trainer.get("callbacks") or []:
        path = callback.get("class_path", "") if isinstance(callback, Mapping) else ""
        owner = _import(path)
        if inspect.isclass(owner) and _averages_weights(owner):
            options = flatten(callback.get("init_args") or {}, f"trainer.callbacks.{owner.__name__}")
            chosen |= {f"trainer.callbacks.{owner.__name__}": "used", **options}
    for part in ("model", "data"):
        given = configuration.get(part) or {}
        paths = _paths(_import(given.get("class_path", "")))
        options = {}
        for key, value in (given.get("init_args") or {}).items():
            if key in HARMLESS[part] or (part == "data" and key in paths):
                continue
            options[key] = Path(value).name if key in paths and value is not None else value
        chosen |= flatten({"class_path": given.get("class_path"), "init_args": options}, part)
    return {key.replace(".class_path", "").replace(".init_args", ""): value for key, value in chosen.items()}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List the changes, one line each: `key: before → now`.

    Args:
        before: the result of `decisive` for the run that is to be continued.
        now: the result of `decisive` for the run that continues it.
    """
    # Earlier versions wrote a class that was an option's default so, and not what its own options are.
    unknown = tuple(key for key, value in before.items() if str(value).startswith("<class '"))
    lines = []
    for key in sorted({*before, *now}):
        if key.startswith(unknown):
            continue
        # An option that one of them lacks, perhaps because its version is older, counts as null.
        values = before.get(key), now.get(key)
        # A resumed run takes its weights from the checkpoint: it need not name the weights of the first start.
        if values[0] != values[1] and not (key == "model.pretrained" and None in values):
            lines.append(f"{key}: {_shown(values[0])} → {_shown(values[1])}")
    return lines


def _averages_weights(callback: type) -> bool:
    # Imported here: `lowrank runs` reads configurations without Lightning.
    from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging

    return issubclass(callback, WeightAveraging | StochasticWeightAveraging)


def _import(path: Any) -> Any:
    module, _, name = str(path).rpartition(".")
    # Nothing is imported because a checkpoint names it. This run's own classes are there already.
    return getattr(sys.modules.get(module), name, None)


def _paths(owner: Any) -> set[str]:
    """Return the names of a class's arguments that are files or folders."""
    found = set()
    for base in getattr(owner, "__mro__", ()):
        for name, parameter in inspect.signature(base).parameters.items() if base is not object else ():
            if "Path" in str(parameter.annotation):
                found.add(name)
    return found


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
