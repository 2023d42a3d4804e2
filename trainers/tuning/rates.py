"""Parameters by patterns of their names: with learning rates of their own, or held for a number of steps."""

import fnmatch
from collections.abc import Mapping
from typing import Any

from torch import nn


def rate_groups(net: nn.Module, rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """Group the parameters that require gradients by learning rate, as optimisers take them.

    Args:
        net: whose parameters are trained.
        rates: learning rates by name or glob pattern; the first that matches counts.

    Returns:
        The group without a rate, which has the optimiser's and is the one that is logged, then one for each pattern.

    Raises:
        ValueError: if a rate is negative, or its pattern matches no trained parameter that no earlier one does.
    """
    trained = _trained(net)
    groups: list[dict[str, Any]] = []
    for pattern, rate in rates.items():
        if not rate >= 0:
            raise ValueError(f"learning_rates ({pattern}: {rate}) must be at least 0")
        names = fnmatch.filter(trained, pattern)
        if not names:
            some = ", ".join(list(trained)[:3])
            raise ValueError(
                f"learning_rates ({pattern}) must match a trained parameter that no earlier pattern does, got none "
                f"of {some}, …"
            )
        groups.append({"params": [trained.pop(name) for name in names], "lr": rate})
    return [{"params": list(trained.values())}, *groups] if trained else groups


def held_parameters(net: nn.Module, held_steps: Mapping[str, int], step: int) -> list[nn.Parameter]:
    """Find the parameters that a step leaves as they are.

    Args:
        net: whose parameters are trained.
        held_steps: steps for which parameters are held, by name or glob pattern.
        step: number of the step, from 0.

    Raises:
        ValueError: if a number of steps is negative, or its pattern matches no trained parameter.
    """
    if not held_steps:
        return []
    trained, found = _trained(net), []
    for pattern, steps in held_steps.items():
        if steps < 0:
            raise ValueError(f"held_steps ({pattern}: {steps}) must be at least 0")
        names = fnmatch.filter(trained, pattern)
        if not names:
            raise ValueError(
                f"held_steps ({pattern}) must match a trained parameter, got none of {', '.join(list(trained)[:3])}, …"
            )
        found += [trained[name] for name in names] if step < steps else []
    return found


def _trained(net: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
