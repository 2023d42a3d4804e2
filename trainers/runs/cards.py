"""The card of a model: what it is, how it was trained and measured, and under which licence, as plain data."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from glmha.attention.base import ChannelAttention
from glmha.attention.recorded import RecordedAttention
from glmha.complexity import count
from glmha.pretrained import FAMILIES as CHANNEL_FAMILIES
from glmha.shared.checkpoint_files import CARD, averaged, read
from glmha.shared.released.download import digest_of
from glmha.shared.released.locate import locate
from glmha.shared.released.table import Released, released
from nystra.pretrained import FAMILIES as WINDOW_FAMILIES
from nystra.sites import attention_record
from trainers.checkpoints.folders import folder_of_run
from trainers.evaluation.provenance import versions
from trainers.networks import input_channels
from trainers.runs.record_file import LARGEST_RECORD, printable_values
from trainers.runs.run import read_run

SIDE = 256
"""Side in pixels of the image for which multiply-adds are counted."""
RESULTS = ("data", "metrics", "average", "partial", "images", "images_expected")
"""What a card takes of metrics.json; each image's values stay there."""


def make_card(net: nn.Module, file: Path) -> dict[str, Any]:
    """Describe a network and the checkpoint that it was loaded from.

    What the run's folder tells (`run.json`, `metrics.json`) is taken in, and the card that the file holds itself.

    Args:
        net: loaded from `file`.
        file: a checkpoint.

    Returns:
        Strings, numbers, lists and mappings.

    Raises:
        CheckpointError: if the checkpoint cannot be read.
    """
    before = card_of(file)
    folder = folder_of_run(file)
    run = None if folder is None else read_run(folder)
    configuration = before.get("recipe") if run is None else run.configuration
    entry = released_as(file)
    start = _start(configuration)
    return {
        **describe_network(net),
        "file": {"name": file.name, "sha256": digest_of(file), "ema": averaged(file)},
        "released as": before.get("released as") if entry is None else entry.name,
        "started from": _without_folders(start),
        "licence": _licence(entry, start, before),
        "recipe": _without_folders(configuration),
        "steps": before.get("steps") if run is None else run.step,
        "results": before.get("results") if folder is None else _results(folder),
        "versions": versions(),
    }


def card_of(file: Path) -> dict[str, Any]:
    """Read the card that a checkpoint holds; empty if it holds none.

    Raises:
        CheckpointError: if the checkpoint cannot be read.
    """
    card = read(file).get(CARD)
    return printable_values(dict(card)) if isinstance(card, Mapping) else {}


def describe_network(net: nn.Module) -> dict[str, Any]:
    """Describe a network: architecture, constructor arguments, parameters, multiply-adds, attention.

    Args:
        net: of this package, or another library's whose attention was adopted.
    """
    return {
        "architecture": type(net).__name__,
        "arguments": _arguments(net),
        "parameters": sum(value.numel() for value in net.parameters()),
        f"multiply-adds at {SIDE}×{SIDE}": _macs(net),
        "attention": _attention(net),
    }


def released_as(file: Path) -> Released | None:
    """Return the released checkpoint that a file is by its digest; None if it is none that is known."""
    digest = digest_of(file)
    return next((entry for entry in released().values() if entry.sha256 == digest), None)


def _arguments(net: nn.Module) -> dict[str, Any]:
    weights = net.state_dict()
    for families in (WINDOW_FAMILIES, CHANNEL_FAMILIES):
        if families.find(weights) is not None:
            _, arguments = families.infer(weights, "the network")
            return {name: _plain(value) for name, value in arguments.items()}
    return {}


def _plain(value: Any) -> Any:
    """An argument as JSON holds it: factories by their name and options."""
    if isinstance(value, functools.partial):
        return {"class": _plain(value.func), **{name: _plain(inner) for name, inner in value.keywords.items()}}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return (
        value
        if value is None or isinstance(value, bool | int | float | str)
        else getattr(value, "__name__", str(value))
    )


def _macs(net: nn.Module) -> int | None:
    try:
        return count(net, (1, input_channels(net), SIDE, SIDE)).macs
    except (ValueError, RuntimeError, TypeError, NotImplementedError):
        # It takes something else than one image, or has products that cannot be counted without being computed.
        return None


def _attention(net: nn.Module) -> Any:
    """Kernels and windows where they are not the released ones; of channel attentions, each kind with its options."""
    kinds = []
    for module in net.modules():
        if isinstance(module, ChannelAttention):
            kind = {"class": type(module).__name__}
            if isinstance(module, RecordedAttention):
                kind |= module.options
            if kind not in kinds:
                kinds.append(kind)
    return kinds or attention_record.record(net) or "as released"


def _without_folders(value: Any) -> Any:
    """A recipe without the folders of the machine that it ran on: of an absolute path its last name is kept."""
    if isinstance(value, Mapping):
        return {name: _without_folders(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_folders(inner) for inner in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _start(configuration: Any) -> str | None:
    """The checkpoint that a run started from, as its recipe names it."""
    model = configuration.get("model") if isinstance(configuration, Mapping) else None
    options = model.get("init_args") if isinstance(model, Mapping) else None
    start = options.get("pretrained") if isinstance(options, Mapping) else None
    return None if start is None else str(start)


def _licence(entry: Released | None, start: str | None, before: Mapping[str, Any]) -> str | None:
    """The licence of the released weights that these are or started from; None: none is known."""
    if entry is None and start is not None:
        entry = released().get(start)
        if entry is None and Path(start).is_file():
            path = locate(Path(start))
            entry = released_as(path)
            before = before or card_of(path)
    return before.get("licence") if entry is None else f"{entry.licence} ({entry.upstream})"


def _results(folder: Path) -> dict[str, Any] | None:
    """Scores of a run's last evaluation, with their protocols."""
    file = folder / "metrics.json"
    try:
        if file.stat().st_size > LARGEST_RECORD:
            return None
        results = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(results, Mapping):
        return None
    return printable_values({name: results[name] for name in RESULTS if name in results})
