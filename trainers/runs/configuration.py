"""What two runs' configurations differ in, and which of it matters to a run that is resumed."""

import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

Configuration = Mapping[str, Any]
"""What a recipe and the command line came to, as `config.yaml` holds it."""

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
    """The part of a configuration that a resumed run must share with the one that it goes on from.

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
    """Say what has changed, a line each: `key: before → now`.

    Args:
        before: of the run that is to go on, from `decisive`.
        now: of the run that is to go on from it.
    """
    lines = []
    for key in sorted({*before, *now}):
        # What one of them does not have, of an older version perhaps, is null to it.
        values = before.get(key), now.get(key)
        # The weights to start from are of no consequence to a run that goes on from others; they need not be named.
        if values[0] != values[1] and not (key == "model.pretrained" and None in values):
            lines.append(f"{key}: {_shown(values[0])} → {_shown(values[1])}")
    return lines


def _averages_weights(callback: type) -> bool:
    # Imported here: `lowrank runs` reads configurations without Lightning.
    from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging

    return issubclass(callback, WeightAveraging | StochasticWeightAveraging)


def _import(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        # Of code that is gone nothing more can be said than its name.
        return None


def _paths(owner: Any) -> set[str]:
    """Names of a class's arguments that are files or folders."""
    found = set()
    for base in getattr(owner, "__mro__", ()):
        for name, parameter in inspect.signature(base).parameters.items() if base is not object else ():
            if "Path" in str(parameter.annotation):
                found.add(name)
    return found


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
