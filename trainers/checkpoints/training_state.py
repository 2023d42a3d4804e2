"""Whether training can go on from a checkpoint, told from the structure of what this run itself would save."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim import Optimizer

from glmha.shared.checkpoint_files import CheckpointError, shortened
from trainers.checkpoints.run_checkpoint import ADVICE, TRAINING_PARTS, is_of, require_parts
from trainers.errors import is_memory_error

# States of torch's optimisers that have an entry for every number of the parameter.
LIKE_PARAMETERS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "grad_avg", "sum")
# What raises at contents of another structure.
OTHER_STRUCTURE = (LookupError, TypeError, AttributeError, RuntimeError, AssertionError)


def check_training_state(checkpoint: Mapping[str, Any], trainer: Trainer, optimizer: Optimizer, scheduler: Any) -> None:
    """Refuse a checkpoint that training cannot go on from, by the structure of what this run would save.

    Args:
        checkpoint: as `read_run_checkpoint` returns it.
        trainer: of the run that is to go on.
        optimizer: of the kind that the run has.
        scheduler: of the kind that the run has; None if it has none.

    Raises:
        CheckpointError: naming the part that is missing or of another kind.
    """
    require_parts(checkpoint, TRAINING_PARTS)
    saved_states, own = checkpoint["optimizer_states"], optimizer.state_dict()["param_groups"]
    if len(saved_states) != 1:
        raise CheckpointError(f"ckpt_path must hold the state of one optimizer, got {len(saved_states)}")
    _compare("optimizer_states", {"state": {}, "param_groups": []}, saved_states[0])
    groups, states = saved_states[0].get("param_groups", ()), saved_states[0].get("state", {})
    if len(groups) != len(own) or not all(isinstance(group, Mapping) and "params" in group for group in groups):
        raise CheckpointError(f"ckpt_path must hold {len(own)} groups of parameters in optimizer_states, got another")
    _require_finite("optimizer_states", saved_states[0])
    for group, saved in zip(own, groups, strict=True):
        _compare("optimizer_states.param_groups", {**group, "params": []}, saved)
        if len(saved["params"]) != len(group["params"]):
            raise CheckpointError("ckpt_path must hold as many parameters in optimizer_states as are trained now")
    numbers = [number for group in groups for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    # Others may keep less, such as a projection of the gradient.
    of_torch = type(optimizer).__module__.startswith("torch.optim")
    entries: dict[int, set[Any]] = {}
    for number, parameter in zip(numbers, parameters, strict=True):
        state = states.get(number, {})
        _compare("optimizer_states.state", {}, state)
        if not of_torch or not state:
            continue
        for name in LIKE_PARAMETERS:
            value = state.get(name)
            if value is not None and (not isinstance(value, Tensor) or value.shape != parameter.shape):
                raise CheckpointError(f"ckpt_path must hold {name} of the shape of its parameter in optimizer_states")
        # Of matrices an optimiser may keep other things than of vectors.
        odd = set(state) ^ entries.setdefault(parameter.ndim, set(state))
        if odd:
            name = min(map(str, odd))
            raise CheckpointError(
                f"ckpt_path must hold the same of all parameters in optimizer_states, got {name} of some alone"
            )
    if scheduler is not None and checkpoint["lr_schedulers"]:
        _compare("lr_schedulers", scheduler.state_dict(), checkpoint["lr_schedulers"][0])
    _compare("loops", trainer._checkpoint_connector._get_loops_state_dict(), checkpoint["loops"])


def _require_finite(name: str, value: object) -> None:
    """Refuse NaN and infinity in what an optimiser steps by: the weights after the next step would hold them."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _require_finite(f"{name}.{key}", inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _require_finite(name, inner)
    elif (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all())
    ):
        raise CheckpointError(f"ckpt_path must hold finite numbers in {name}, got NaN or infinity")


@contextmanager
def restoring(ckpt_path: object) -> Iterator[None]:
    """Put what fails while Lightning restores a checkpoint in one message.

    Args:
        ckpt_path: that is given to Lightning; None: there is nothing to restore, and everything passes.

    Raises:
        CheckpointError: with the first fault; everything else passes as it is.
    """
    try:
        yield
    except OTHER_STRUCTURE as error:
        if ckpt_path is None or is_memory_error(error) or not _came_from_restoring(error):
            raise
        raise unfit(error) from error


def unfit(error: Exception) -> CheckpointError:
    """The refusal of a checkpoint whose contents are not what a run of this version saves."""
    return CheckpointError(
        f"ckpt_path must be a checkpoint as a run of this version saves it, got one that cannot be restored "
        f"({type(error).__name__}: {shortened(str(error), 1)}): {ADVICE}"
    )


def _came_from_restoring(error: BaseException) -> bool:
    traceback = error.__traceback__
    while traceback is not None:
        if _restores(traceback.tb_frame):
            return True
        traceback = traceback.tb_next
    return False


def _restores(frame: FrameType) -> bool:
    name = frame.f_code.co_name
    by_connector = frame.f_code.co_filename.endswith("checkpoint_connector.py") and not name.startswith("dump")
    # The states of loaders wait until training begins. Any other `load_state_dict` may be of weights that are no run's.
    return by_connector or name == "_load_state_dicts"


def _compare(where: str, own: Any, saved: Any) -> None:
    """Refuse values of other kinds than this run's own; what only one of both has may be of another version."""
    kind = next((kind for kind in (bool, int, float, str, Mapping, list, tuple, Tensor) if isinstance(own, kind)), None)
    if kind is None or (kind in (int, float) and isinstance(saved, Tensor)):
        return
    if not is_of(saved, {int: float, tuple: list}.get(kind, kind)):
        raise CheckpointError(
            f"ckpt_path must be a run's checkpoint, got one whose {where} is another thing ({type(saved).__name__})"
        )
    if isinstance(own, Mapping):
        # Other keys than names are data, such as a schedule's milestones.
        if own and all(isinstance(key, str) for key in own) and not own.keys() & saved.keys():
            raise CheckpointError(
                f"ckpt_path must be a run's checkpoint, got one whose {where} lacks {next(iter(own))}"
            )
        for key in own.keys() & saved.keys():
            _compare(f"{where}.{key}", own[key], saved[key])
    elif isinstance(own, list) and own:
        for value in saved:
            _compare(where, own[0], value)
