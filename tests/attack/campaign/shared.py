"""What attacks share: pairs of pictures, a recipe, a network that changes nothing, a finished training."""

from pathlib import Path

import torch

from tests.attack.campaign.execution import run
from tests.attack.inputs.attack import DONE, Shared, Step
from tests.trainers.checkpoints.resuming import write_recipe
from tests.trainers.small_networks import restormer


def identity_weights() -> dict[str, torch.Tensor]:
    """Weights of a Restormer that adds nothing to its image."""
    weights = dict(restormer().state_dict())
    weights["output.weight"] = torch.zeros_like(weights["output.weight"])
    return weights


def make_shared(folder: Path) -> Shared:
    """Make all of it in an empty folder.

    Raises:
        RuntimeError: if the training fails.
    """
    folder.mkdir(parents=True)
    recipe = write_recipe(folder)
    identity = folder / "identity.pth"
    torch.save({"params": identity_weights()}, identity)
    ended, _ = run(Step(["fit", "--config", recipe], DONE), folder, folder.with_suffix(".fit"), 120)
    if ended.status != 0:
        raise RuntimeError(ended.err)
    return Shared(folder, recipe, identity, folder / "logs/run/version_0")
