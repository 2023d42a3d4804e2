"""Mixtures of the images of a batch, and of their targets alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mixup:
    """λx + (1 - λ)x' for every image x of a batch, x' another one of it, λ ~ Beta(β, β) (Zhang et al., 2018).

    One λ serves the batch, as in MIRNet's and Restormer's `mixing_augs`, whose `use_identity` is a share of one half.
    What is random comes from torch's generator on the CPU, which tasks seed at every step.

    Attributes:
        beta: β, above 0.
        share: of the batches that are mixed, 0 < share <= 1; the others are left as they are.

    Raises:
        ValueError: if a number is out of range.

    Examples:
        >>> import torch
        >>> from trainers import Mixup
        >>> _ = torch.manual_seed(0)
        >>> batch = {"input": torch.eye(2), "target": torch.eye(2), "name": ["a", "b"]}
        >>> mixed = Mixup(share=1.0)(batch)
        >>> torch.equal(mixed["input"], mixed["target"]), mixed["input"].sum(1).tolist()
        (True, [1.0, 1.0])
    """

    beta: float = 1.2
    share: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what is no distribution."""
        if not self.beta > 0:
            raise ValueError(f"beta ({self.beta}) of mixup must be above 0; upstream's is 1.2")
        if not 0 < self.share <= 1:
            raise ValueError(f"share ({self.share}) of mixup must be above 0 and at most 1; leave mixup out for none")

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Mix `input` and `target`, (B, ...) each; what else a batch has stays."""
        mixed = dict(batch)
        if torch.rand(()) >= self.share:
            return mixed
        weight = float(torch.distributions.Beta(self.beta, self.beta).sample())
        order = torch.randperm(len(batch["input"]))
        for name in ("input", "target"):
            images: Tensor = batch[name]
            mixed[name] = torch.lerp(images[order.to(images.device)], images, weight)
        return mixed
