"""A run's checkpoint as it is read: plain data, of the parts that a run saves, or one message."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from glmha.shared.checkpoint_files import CheckpointError, read, require_file
from glmha.shared.state_dicts import EXTRA_STATE

ADVICE = "give --ckpt_path a checkpoint of `lowrank fit`, or --model.pretrained released weights"
LIGHTNING = "pytorch-lightning_version"
# Parts of every checkpoint of Lightning's, and those without which training cannot go on.
PARTS: dict[str, type] = {LIGHTNING: str, "state_dict": Mapping, "global_step": int, "epoch": int, "loops": Mapping}
TRAINING_PARTS: dict[str, type] = {"optimizer_states": list, "lr_schedulers": list}
OPTIONAL_PARTS: dict[str, type] = {
    "callbacks": Mapping,
    "attention": Mapping,
    "current_model_state": Mapping,
    "averaging_state": Mapping,
    "adapted_state": Mapping,
    "fine_tuning": Mapping,
}
NOTES = "lowrank"
"""Name of what a run notes beside Lightning's parts, apart from whatever a task or callback of the user's keeps."""
NOTED: dict[str, type] = {"optimizers": list, "seed": int, "configuration": Mapping, "accumulated": int}


def read_run_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint that Lightning saved, without executing anything in it.

    Args:
        path: of a file on this machine.

    Raises:
        CheckpointError: if it cannot be read or is no run's; the message names a complete one beside it.
    """
    require_file(path, "ckpt_path")
    try:
        content = dict(read(path, "ckpt_path"))
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {_beside(path) or ADVICE}") from None
    if LIGHTNING not in content:
        raise CheckpointError(f"ckpt_path ({path}) must be a run's checkpoint, got bare weights: {ADVICE}")
    require_parts(content, PARTS, path)
    require_parts(content, {key: kind for key, kind in OPTIONAL_PARTS.items() if key in content}, path)
    require_parts(content, {NOTES: Mapping} if NOTES in content else {}, path)
    require_parts(notes(content), {key: kind for key, kind in NOTED.items() if key in notes(content)}, path)
    for part in ("state_dict", "current_model_state", "adapted_state"):
        strange = [key for key, value in content.get(part, {}).items() if not _is_weight(key, value)]
        if strange:
            raise CheckpointError(
                f"ckpt_path ({path}) must map names to tensors in {part}, got something else under {strange[0]}"
            )
    return content


def note(checkpoint: dict[str, Any], **values: Any) -> None:
    """Note values in a checkpoint that is to be saved.

    Args:
        checkpoint: what Lightning saves.
        **values: of `NOTED`.
    """
    checkpoint[NOTES] = {**checkpoint.get(NOTES, {}), **values}


def notes(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a run has noted in a checkpoint; earlier versions kept it among Lightning's parts."""
    return checkpoint.get(NOTES, checkpoint)


def require_parts(content: Mapping[str, Any], parts: Mapping[str, type], path: Path | None = None) -> None:
    """Refuse a checkpoint that lacks a part, or has something else in its place.

    Args:
        content: of the checkpoint.
        parts: name → kind.
        path: of the file, for messages.

    Raises:
        CheckpointError: naming the first part.
    """
    named = "ckpt_path" if path is None else f"ckpt_path ({path})"
    for part, kind in parts.items():
        if part not in content:
            raise CheckpointError(f"{named} must be a complete checkpoint of a run, got one without {part}: {ADVICE}")
        if not is_of(content[part], kind) or (kind is int and content[part] < 0):
            got = type(content[part]).__name__
            raise CheckpointError(f"{named} must be a run's checkpoint, got one whose {part} is another thing ({got})")


def is_of(value: Any, kind: type) -> bool:
    """Whether a value of a checkpoint is of a kind; integers are numbers, booleans are not, tuples are lists."""
    wider = {float: int | float, list: list | tuple}.get(kind, kind)
    return isinstance(value, wider) and (kind is bool or not isinstance(value, bool))


def _is_weight(key: Any, value: Any) -> bool:
    # What modules say of themselves (`get_extra_state`) may be any plain data.
    return isinstance(key, str) and (isinstance(value, Tensor) or key.endswith(EXTRA_STATE))


def _beside(path: Path) -> str:
    """Name the newest complete checkpoint in the folder of one that is not."""
    others = [other for other in path.parent.glob("*.ckpt") if other != path and other.is_file()]
    for other in sorted(others, key=lambda other: other.stat().st_mtime, reverse=True):
        if zipfile.is_zipfile(other):
            try:
                read(other, "ckpt_path")
            except CheckpointError:
                continue
            return f"a complete one beside it is {other}"
    return ""
