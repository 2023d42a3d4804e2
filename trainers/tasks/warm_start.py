"""Fine-tuning a network of low-rank channel attention that is started from released weights of exact attention."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glmha import convert, load_pretrained
from glmha.attention.factories import AttentionFactory
from glmha.pretrained import FAMILIES
from trainers.devices.sharding import shard_of
from trainers.evaluation.data_sets import data_module
from trainers.tasks.compatibility import differing_entries
from trainers.tasks.finetuning import FineTuningTask


class WarmStartTask(FineTuningTask):
    """Trains GLMHA in the place of a released network's exact channel attention.

    The teacher is the released network. Training starts where `glmha.convert` ends: every attention's low-rank keys and
    values fitted in closed form to the features of a few training patches. A run that is resumed, and every
    evaluation, takes its weights from the checkpoint instead.

    Args:
        pretrained: Restormer or RGB-to-RGB MST with exact attention, as released; loaded strictly.
        attention: factory (channels, heads) → GLMHA, or one a level, as hosts take it.
        calibration: number of training patches for the closed form.
        **kwargs: of `FineTuningTask`.

    Raises:
        CheckpointError: if the checkpoint cannot be read or is of no such network.
        ValueError: if `calibration` is below 1.

    Examples:
        >>> import glmha, torch
        >>> from trainers import WarmStartTask
        >>> net = glmha.Restormer(dim=4, num_blocks=[1] * 4, num_refinement_blocks=1, heads=[1] * 4)
        >>> torch.save(net.state_dict(), "released.pth")
        >>> task = WarmStartTask("released.pth", glmha.GLMHA, calibration=2)
        >>> [type(net.encoder_level1[0].attn).__name__ for net in (task.teacher, task.net)]
        ['ChannelAttention', 'GLMHA']
    """

    def __init__(
        self,
        pretrained: str | Path,
        attention: AttentionFactory | Sequence[AttentionFactory],
        *,
        calibration: int = 4,
        **kwargs: Any,
    ) -> None:
        if calibration < 1:
            raise ValueError(f"calibration ({calibration}) must be at least 1 training patch")
        dense = load_pretrained(pretrained)
        host, arguments = FAMILIES.infer(dense.state_dict(), str(pretrained))
        super().__init__(host(**{**arguments, "attention": attention}), dense, **kwargs)
        self.pretrained = pretrained
        self.attention = attention
        self.calibration = calibration
        self._started = False

    def on_fit_start(self) -> None:
        """Prepare the run as the base class does; start from the dense weights, unless a checkpoint was loaded."""
        super().on_fit_start()
        if not self._started:
            patches = [patch.to(self.device) for patch in self._patches()]
            # From the seed alone: how much was drawn before depends on the devices.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self._seed)
                started = convert(self.teacher, patches, self.attention).state_dict()
            # Rounding may differ from device to device.
            self.take(self.trainer.strategy.broadcast(started))

    def on_validation_start(self) -> None:
        """Refuse to validate a start that was never made."""
        self._require_start()

    def on_test_start(self) -> None:
        """Refuse to test a start that was never made."""
        self._require_start()

    def on_predict_start(self) -> None:
        """Refuse to predict with a start that was never made."""
        self._require_start()

    def _require_start(self) -> None:
        if not self._started:
            raise ValueError(
                "ckpt_path must be a checkpoint of `lowrank fit` to evaluate WarmStartTask, got none: the start is "
                "made of training patches; evaluate its weights with RestorationTask (--model.pretrained)"
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check the checkpoint as the base class does; loaded weights need no start."""
        super().on_load_checkpoint(checkpoint)
        self._started = True

    def take(self, weights: dict[str, Tensor]) -> None:
        """Load the student with a plain state dict of its architecture.

        Raises:
            ValueError: naming the weights that are missing or of another shape.
        """
        # Adapted weights lie one level further down.
        names = {key.replace("parametrizations.weight.original", "weight"): key for key in self.net.state_dict()}
        own = self.net.state_dict()
        plain = {name: own[key] for name, key in names.items() if not _is_adapter(key)}
        if differing := differing_entries(plain, weights):
            raise ValueError(f"the weights of a start must be those of {type(self.net).__name__}, got {differing}")
        taken = {names[key]: shard_of(value, own[names[key]]) for key, value in weights.items()}
        self.net.load_state_dict(taken, strict=False)
        self._started = True

    def _patches(self) -> list[Tensor]:
        """The run's first training patches, each (1, C, H, W), the same on any number of devices."""
        data = data_module(self.trainer)
        if data is None:
            raise ValueError("data must be a data module, whose training patches start WarmStartTask, got none")
        # Samples are dealt out to the devices one by one.
        devices = self.trainer.world_size
        own = math.ceil(self.calibration / devices)
        patches: list[Tensor] = []
        # What the loader draws must not be missing in training.
        with torch.random.fork_rng(devices=[]):
            for batch in data.train_dataloader():
                patches += batch["input"].split(1)
                if len(patches) >= own:
                    break
        if devices > 1:
            dealt: Any = self.all_gather(torch.cat(patches[:own]).to(self.device))
            patches = list(dealt.transpose(0, 1).flatten(0, 1).split(1))
        return patches[: self.calibration]


def _is_adapter(key: str) -> bool:
    return ".parametrizations.weight." in key and not key.endswith(".original")
