"""The training that all tasks share: optimiser, schedule, steps, checks of gradients, contents of checkpoints."""

import logging
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from datamodules.base.restoration import RestorationDataModule
from glmha.shared.image_network import image_rules
from glmha.shared.recompute import set_recompute
from nystra.sites import attention_record
from trainers.checkpoints.run_checkpoint import note, notes
from trainers.checkpoints.training_state import check_training_state
from trainers.devices.sharding import FullySharded, whole
from trainers.errors import NonFiniteError, RunFinishedError
from trainers.evaluation.data_sets import data_module
from trainers.metrics.base import ImageMetric
from trainers.schedules import follow_run
from trainers.tasks.compatibility import (
    check_shapes,
    class_path,
    differing_entries,
    initialise_parts,
    seed_everything_else,
)
from trainers.tasks.evaluation import Batch, EvaluationTask
from trainers.tasks.mixup import Mixup
from trainers.tiling.clips import ClipTiles, mirrored
from trainers.tuning.rates import held_parameters, rate_groups

_logger = logging.getLogger(__name__)


class ImageTask(EvaluationTask):
    """Trains a network to map what a camera saw to what it should have seen, and evaluates it at any image size.

    A task of another kind of images is a subclass that defines how the network is called, and what is drawn and saved.

    Args:
        net: (B, C, H, W) → (B, C', H', W'); None: the network whose weights `pretrained` holds.
        loss: (restored, target) → scalar; None: the task's default loss.
        optimizer: makes the optimiser from the network's parameters; None: AdamW.
        scheduler: makes the learning-rate schedule, stepped once per optimiser step; None: constant.
        metrics: of validation and test, each with another name; None: the task's default
            metrics.
        pretrained: checkpoint to start from, a file, a name of `lowrank models`, or an address, loaded strictly; None:
            random initialisation. (To resume a run, or to evaluate a checkpoint of it, use `--ckpt_path`.)
        tile: largest side in pixels of what the network sees at once in evaluation; None: whole images.
        overlap: pixels that neighbouring tiles share at least.
        logged_images: images of each validation set that are shown in TensorBoard.
        self_ensemble: average over the eight flips and quarter turns in evaluation outside training; eight
            times the time.
        clips: how clips are restored in time; None: each as a whole.
        mixup: mixtures of the images of training batches; None: none.
        checkpoint_activations: whether the network's blocks are recomputed in the backward pass instead of keeping
            their activations: less memory, one forward pass more.
        compile_backend: of torch.compile for training steps, such as "inductor"; None: not compiled. Evaluation, whose
            images have all sizes, is not.
        pretrained_parts: checkpoints of parts of the network by the names of the parts, such as spynet for the
            optical flow of RVRT; the rest is as `net` is made.
        learning_rates: learning rates of parameters by name or glob pattern, such as "spynet.*", the first that matches
            counts; the others have the optimiser's.
        held_steps: steps for which parameters of a pattern are held as they are at the beginning.

    Raises:
        ValueError: if neither `net` nor `pretrained` is given, they do not fit together, two metrics have one name, or
            a pattern matches no trained parameter.
        CheckpointError: if `pretrained` cannot be read.
    """

    def __init__(
        self,
        net: nn.Module | None = None,
        loss: nn.Module | None = None,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        metrics: Sequence[ImageMetric] | None = None,
        pretrained: str | Path | None = None,
        tile: int | None = None,
        overlap: int = 48,
        logged_images: int = 4,
        self_ensemble: bool = False,
        clips: ClipTiles | None = None,
        mixup: Mixup | None = None,
        checkpoint_activations: bool = False,
        compile_backend: str | None = None,
        pretrained_parts: Mapping[str, str | Path] | None = None,
        learning_rates: Mapping[str, float] | None = None,
        held_steps: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(
            net,
            metrics=metrics,
            pretrained=pretrained,
            tile=tile,
            overlap=overlap,
            logged_images=logged_images,
            self_ensemble=self_ensemble,
            clips=clips,
        )
        initialise_parts(self.net, pretrained_parts or {}, pretrained)
        set_recompute(self.net, checkpoint_activations)
        if compile_backend is not None:
            known = torch.compiler.list_backends(exclude_tags=())
            if compile_backend not in known:
                raise ValueError(f"compile_backend ({compile_backend}) must be null or one of {', '.join(known)}")
        self.compile_backend = compile_backend
        # Not a sub-module: the keys of checkpoints are the network's own.
        self._compiled: list[Any] = []
        self.mixup = mixup
        self.loss = self.default_loss() if loss is None else loss
        # Not the argument's default: its weight decay would stay where a recipe names another class.
        self.make_optimizer: OptimizerCallable = torch.optim.AdamW if optimizer is None else optimizer
        self.make_scheduler = scheduler
        self.learning_rates = dict(learning_rates or {})
        self.held_steps = dict(held_steps or {})
        self.trained_parameters()
        held_parameters(self.net, self.held_steps, 0)
        self._unchecked: list[tuple[Tensor, Sequence[str]]] = []
        self._seed = 0

    @abstractmethod
    def default_loss(self) -> nn.Module:
        """Make the loss of a task that is given none."""

    @abstractmethod
    def call(self, batch: Batch) -> Tensor:
        """Call the network on a training batch, on its device: (B, C', H', W')."""

    @property
    def trained_net(self) -> Any:
        """The network as training calls it: compiled if a backend is given and gradients are recorded."""
        if self.compile_backend is None or not torch.is_grad_enabled():
            return self.net
        if not self._compiled:
            self._compiled.append(torch.compile(self.net, backend=self.compile_backend))
        return self._compiled[0]

    def configure_model(self) -> None:
        """Shard the network where the strategy is made for that.

        Raises:
            ValueError: if its weights are to be averaged as well, or several devices to evaluate in tiles.
        """
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]  # set by a connector
        averages = any(isinstance(callback, WeightAveraging) for callback in callbacks)
        if isinstance(self.trainer.strategy, FullySharded) and averages:
            raise ValueError(
                "ema_decay must be null with strategy fully_sharded: Lightning averages whole weights only; leave it "
                "out, or train with --trainer.strategy ddp"
            )
        super().configure_model()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimise what requires gradients; step the schedule with the optimiser, to the end of the run.

        Raises:
            ValueError: if the schedule is to end with a run that has no end.
        """
        optimizer = self.make_optimizer(self.trained_parameters())
        if self.make_scheduler is None:
            return optimizer
        scheduler: Any = self.make_scheduler(optimizer)
        mismatch = follow_run(scheduler, self.trainer.estimated_stepping_batches)
        if mismatch is not None and self.trainer.is_global_zero:
            _logger.warning(mismatch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def trained_parameters(self) -> Iterable[Any]:
        """Return groups of parameters for the optimiser: those that require gradients, by learning rate."""
        return rate_groups(self.net, self.learning_rates)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the optimisers' classes, of which Lightning keeps the states only, and the windows' kernels."""
        # A run without a seed of its recipe's goes on with that of its beginning.
        note(checkpoint, optimizers=[class_path(optimizer) for optimizer in self.trainer.optimizers], seed=self._seed)
        # Plain weights load into the original architecture; what became of its window attention stands beside them.
        if record := attention_record.record(self.net):
            checkpoint[attention_record.KEY] = record

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another network, with the first differences.

        Training without averaged weights goes on from those in training, which stand beside an average.

        Raises:
            ValueError: if a tensor is missing, unknown or of another shape, or it attends in other windows or by other
                kernels.
        """
        differing = differing_entries(self.state_dict(), checkpoint["state_dict"])
        if differing:
            raise ValueError(
                f"ckpt_path must be a checkpoint of the same net ({type(self.net).__name__}), got other tensors: "
                f"{differing}; use the config.yaml in the checkpoint's log folder"
            )
        record, expected = checkpoint.get(attention_record.KEY, {}), self.attention_records()
        if record not in expected:
            raise ValueError(
                "the net's windows and kernels must be those that ckpt_path was trained with, got "
                f"{attention_record.describe(expected[0])} where it records {attention_record.describe(record)}: use "
                "the config.yaml in the checkpoint's log folder, or its weights alone (--model.pretrained, without "
                "--model.net)"
            )
        trainer = self._trainer
        if "current_model_state" in checkpoint and trainer is not None and trainer.state.fn == TrainerFn.FITTING:
            callbacks = trainer.callbacks  # type: ignore[attr-defined]  # set by a connector
            if not any(isinstance(callback, WeightAveraging) for callback in callbacks):
                checkpoint["state_dict"] = checkpoint["current_model_state"]

    def attention_records(self) -> Sequence[Mapping[str, Any]]:
        """Return the attention records that checkpoints of this task may hold, that of the beginning first."""
        return [attention_record.record(self.net)]

    def check_resumption(self, checkpoint: dict[str, Any], trainer: Trainer) -> None:
        """Refuse a checkpoint that training cannot go on from.

        Args:
            checkpoint: what Lightning saved.
            trainer: of the run that is to go on.

        Raises:
            ValueError: if it is of another network or optimiser, or of a run that is at its end already.
        """
        self.on_load_checkpoint(checkpoint)
        optimizer = self.make_optimizer(self.trained_parameters())
        trained = notes(checkpoint).get("optimizers", [])
        if trained not in ([], [class_path(optimizer)]):
            raise ValueError(
                f"model.optimizer ({class_path(optimizer)}) must be the one that ckpt_path was trained with, got "
                f"{', '.join(map(str, trained))}: choose that, or start afresh from its weights with --model.pretrained"
            )
        scheduler = None if self.make_scheduler is None else self.make_scheduler(optimizer)
        check_training_state(checkpoint, trainer, optimizer, scheduler)
        progress = checkpoint["loops"]["fit_loop"]
        # At the validation that ends an epoch, Lightning has not counted it yet.
        counted = "ready" if progress["epoch_loop.batch_progress"]["is_last_batch"] else "processed"
        epochs = progress["epoch_progress"]["current"][counted]
        limits = {"steps": (trainer.max_steps, checkpoint["global_step"]), "epochs": (trainer.max_epochs, epochs)}
        for unit, (limit, taken) in limits.items():
            if limit is not None and -1 < limit <= taken:
                raise RunFinishedError(
                    f"trainer.max_{unit} ({limit}) must be above the {taken} {unit} that ckpt_path has been trained "
                    f"for: raise --trainer.max_{unit} to go on (and the schedule's length with it)"
                )

    def check_patches(self, data: LightningDataModule | None) -> None:
        """Refuse a data module whose training patches the network cannot take.

        Raises:
            ValueError: if their side is no multiple of the network's `size_multiple`.
        """
        multiple = image_rules(self.net).size_multiple
        for index, size in enumerate(data.patch_sizes if isinstance(data, RestorationDataModule) else []):
            if size % multiple:
                lower = size // multiple * multiple
                raise ValueError(
                    f"patch_size ({size}) must be a multiple of {multiple} for {type(self.net).__name__}: give "
                    f"{'--data.stages one of' if index else '--data.patch_size'} "
                    f"{f'{lower} or ' if lower else ''}{lower + multiple}"
                )

    def on_fit_start(self) -> None:
        """Refuse patches that the network cannot take, before the first one is read; note the run's seed."""
        self.check_patches(data_module(self.trainer))
        self._seed = self.trainer.strategy.broadcast(torch.initial_seed())

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Draw what is random in a step (dropout, stochastic depth, mixtures) from the seed and the step's number.

        A step that is taken again after a run was killed draws the same, in every process, whatever was drawn before.
        """
        seed_everything_else(self._seed, self.trainer.global_rank, self.trainer.global_step, len(self._unchecked))

    def objective(self, restored: Tensor, batch: Batch) -> Tensor:
        """Return what a training step minimises: the loss against the targets, unless a task has others."""
        return self.loss(restored, batch["target"])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch, mixed if `mixup` is given; clips are mirrored if they are to be."""
        if self.clips.mirror:
            batch = {**batch, "input": mirrored(batch["input"], 1), "target": mirrored(batch["target"], 1)}
        if self.mixup is not None:
            batch = self.mixup(batch)
        restored = self.call(batch)
        check_shapes(restored, batch["target"])
        loss = self.objective(restored, batch)
        self._unchecked.append((loss.detach(), batch["name"]))
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["name"]))
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stop before NaN or infinity reaches the weights; log the gradient's norm and the learning rates.

        Parameters that are held lose their gradient here, so that optimiser and clipping do not see them.
        """
        for parameter in held_parameters(self.net, self.held_steps, self.trainer.global_step):
            parameter.grad = None
        groups = optimizer.param_groups
        gradients = [[p.grad for p in group["params"] if p.grad is not None] for group in groups]
        norms = torch.stack([whole(torch.nn.utils.get_total_norm(some)).to(self.device) for some in gradients])
        norm = torch.linalg.vector_norm(norms)
        batches, self._unchecked = self._unchecked, []
        # One transfer for all: each would wait for the device.
        *losses, norm_value = torch.stack([*(loss.to(norm) for loss, _ in batches), norm]).tolist()
        for loss, (_, names) in zip(losses, batches, strict=True):
            self._require_finite("loss", loss, names)
        # float16's gradient scaler expects infinite gradients now and then, and skips those steps.
        if self.trainer.precision != "16-mixed":
            self._require_finite("gradient norm", norm_value, [name for _, names in batches for name in names])
        self.log_dict({"train/gradient_norm": norm, "train/learning_rate": groups[0]["lr"]})
        if len(groups) > 1:
            for index, (group, own) in enumerate(zip(groups, norms, strict=True)):
                name = group.get("name", index)
                self.log_dict({f"train/gradient_norm/{name}": own, f"train/learning_rate/{name}": group["lr"]})

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Log a value; in training only at the steps that loggers write, because each call costs a tenth of a ms.

        Args:
            name: of the value.
            value: scalar.
            *args: as in the base class.
            **kwargs: as in the base class.
        """
        trainer = self.trainer
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by a connector
        if not trainer.training or (trainer.global_step + 1) % every == 0 or trainer.should_stop:
            super().log(name, value, *args, **kwargs)

    def _require_finite(self, quantity: str, value: float, names: Sequence[str]) -> None:
        if not math.isfinite(value):
            raise NonFiniteError(
                f"{quantity} must be finite, got {value} at step {self.trainer.global_step + 1} on the batch of "
                f"{', '.join(names)}: look at these images, lower the learning rate or clip the gradient "
                "(--trainer.gradient_clip_val)"
            )
