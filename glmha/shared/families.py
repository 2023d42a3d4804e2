"""Families of networks: told apart by keys of their state dicts, their arguments inferred from tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic

from glmha.shared.checkpoint_files import CheckpointError
from glmha.shared.state_dicts import StateDict
from glmha.shared.strict_loading import UNFIT, Host, build_host


@dataclass(frozen=True)
class Family(Generic[Host]):
    """Networks of one checkpoint format.

    Attributes:
        marks: keys that tell the family from the others: every state dict of it has all of them.
        host: the class of its networks.
        infer_arguments: the rule that reads constructor arguments off a bare state dict.
    """

    marks: tuple[str, ...]
    host: Callable[..., Host]
    infer_arguments: Callable[[StateDict], dict[str, Any]]


@dataclass(frozen=True)
class Families(Generic[Host]):
    """The table of the families that a package can load, and how a state dict finds its family.

    Attributes:
        table: the families; the first whose marks are all there is taken, so that marks may include a later family's.
        refusal: message about a state dict of no family, with {name} for the checkpoint and {keys} for its first keys.
    """

    table: tuple[Family[Host], ...]
    refusal: str

    def find(self, weights: StateDict) -> Family[Host] | None:
        """Return the family that a bare state dict is of, None if it is of none."""
        return next((family for family in self.table if all(mark in weights for mark in family.marks)), None)

    def infer(self, weights: StateDict, name: str) -> tuple[Callable[..., Host], dict[str, Any]]:
        """Find the host class and its constructor arguments from keys and shapes.

        Args:
            weights: bare state dict.
            name: what to call the checkpoint in messages.

        Raises:
            CheckpointError: if the keys are of no family, some are missing, or shapes do not fit them.
        """
        family = self.find(weights)
        if family is None:
            raise CheckpointError(self.refusal.format(name=name, keys=list(weights)[:3]))
        try:
            return family.host, family.infer_arguments(weights)
        except KeyError as error:
            raise CheckpointError(
                f"{name} lacks the key {error}: it is incomplete or of another architecture"
            ) from None
        except UNFIT as error:
            raise CheckpointError(f"{name} has tensors of other shapes than its keys promise: {error}") from None

    def build(self, weights: StateDict, name: str, overrides: Mapping[str, Any]) -> Host:
        """Build the network that a bare state dict belongs to and load it strictly.

        Args:
            weights: bare state dict.
            name: what to call the checkpoint in messages.
            overrides: constructor arguments that replace the inferred ones.

        Returns:
            The network in eval mode and float32.

        Raises:
            CheckpointError: see `infer` and `build_host`.
        """
        host, arguments = self.infer(weights, name)
        return build_host(host, arguments, overrides, weights, name)
