"""The base of fine-tuning tasks: a frozen teacher, losses against it, and a choice of trained parameters."""

from typing import Any, Literal

import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from trainers.checkpoints.lookup import log_folder
from trainers.evaluation.data_sets import data_sets
from trainers.evaluation.scores import Evaluation, ImageScore, gather
from trainers.evaluation.tuning_figures import TuningFigures
from trainers.networks import in_unit_range
from trainers.tasks.evaluation import Batch
from trainers.tasks.restoration import RestorationTask
from trainers.tuning.distillation import attentions, outputs, relative_error
from trainers.tuning.lora import merge_lora
from trainers.tuning.trainable import Trainable, disable_dropout, freeze

ADAPTED = "adapted_state"
"""Where a checkpoint keeps low-rank adapters apart, to go on training them; its `state_dict` has them merged."""
FIGURES = "fine_tuning"
"""Where a checkpoint keeps the figures of the start, which a resumed run does not measure again."""


class FineTuningTask(RestorationTask):
    """Trains a network that another one started, against ground truth, against that one's outputs, or both.

    Subclasses say what the network and its teacher are.

    Args:
        net: the student.
        teacher: in eval mode, never trained; its attentions have the same names. It is neither a part of the task's
            parameters nor of its checkpoints.
        ground_truth: weight of the loss against the target.
        teacher_image: weight of the loss against the teacher's output.
        teacher_attention: weight of the relative squared error of what each attention makes against the teacher's, as
            maps in the image's order, so that windows need not be the same; mean over the attentions.
        trainable: "all" parameters, those of the "attention" (projections and position bias), its position "bias"
            alone, or low-rank "adapters" of its projections (needs peft). The others are frozen.
        adapter_rank: of the adapters.
        stochastic: whether dropout and stochastic depth act in training; teachers are without.
        **kwargs: of `RestorationTask`.

    Attributes:
        figures: of exact attention, of the start and of the last validation, on the images of the sanity check before
            training; None without one. Checkpoints keep them.

    Raises:
        ValueError: if a weight is negative or all are 0, `trainable` leaves nothing to train, or a pattern matches no
            trained parameter, or adapters are wanted and peft is not installed.
    """

    def __init__(
        self,
        net: nn.Module,
        teacher: nn.Module,
        *,
        ground_truth: float = 1.0,
        teacher_image: float = 0.0,
        teacher_attention: float = 1.0,
        trainable: Trainable = "all",
        adapter_rank: int = 8,
        stochastic: bool = False,
        **kwargs: Any,
    ) -> None:
        weights = {
            "ground_truth": ground_truth,
            "teacher_image": teacher_image,
            "teacher_attention": teacher_attention,
        }
        for name, weight in weights.items():
            if not weight >= 0:
                raise ValueError(f"{name} ({weight}) must be at least 0: it is a loss's weight")
        if not any(weights.values()):
            raise ValueError(f"{', '.join(weights)} (all 0) must not all be 0: there would be nothing to train against")
        if not stochastic:
            disable_dropout(net)
        freeze(net, trainable, adapter_rank)
        # Loaded networks are in eval mode.
        net.train()
        super().__init__(net=net, pretrained=None, **kwargs)
        self.ground_truth = ground_truth
        self.teacher_image = teacher_image
        self.teacher_attention = teacher_attention
        self.trainable = trainable
        # In a tuple, so that it is no sub-module: neither saved, nor trained, nor wrapped with the student.
        self._teacher = (teacher.eval().requires_grad_(requires_grad=False),)
        self._attended: dict[str, Tensor] = {}
        self.figures: TuningFigures | None = None
        self._exact_scores: list[ImageScore] = []

    @property
    def teacher(self) -> nn.Module:
        """The frozen network that outputs are compared with."""
        return self._teacher[0]

    def on_fit_start(self) -> None:
        """Prepare the run as the base class does, and take the teacher to the student's device."""
        super().on_fit_start()
        self.teacher.to(self.device)

    def call(self, batch: Batch) -> Tensor:
        """Call the student on a batch of patches, keeping what its attentions make."""
        if not self.teacher_attention:
            return super().call(batch)
        with outputs(attentions(self.net)) as self._attended:
            return super().call(batch)

    def objective(self, restored: Tensor, batch: Batch) -> Tensor:
        """Weighted sum of the losses against the target, the teacher's output and its attentions."""
        parts: dict[str, tuple[float, Tensor]] = {}
        if self.ground_truth:
            parts["ground_truth"] = self.ground_truth, self.loss(restored, batch["target"])
        if self.teacher_image or self.teacher_attention:
            student, self._attended = self._attended, {}
            watched = {name: module for name, module in attentions(self.teacher).items() if name in student}
            with torch.no_grad(), outputs(watched) as teacher:
                image = in_unit_range(self.teacher, batch["input"])
            if self.teacher_image:
                parts["teacher_image"] = self.teacher_image, self.loss(restored, image)
            if self.teacher_attention:
                errors = [relative_error(student[name], teacher[name]) for name in student]
                parts["teacher_attention"] = self.teacher_attention, torch.stack(errors).mean()
        self.log_dict({f"train/{name}": loss.detach() for name, (_, loss) in parts.items()})
        total = torch.stack([weight * loss for weight, loss in parts.values()]).sum()
        if isinstance(getattr(self._trainer, "strategy", None), DDPStrategy):
            # It waits for every parameter's gradient, also of those that kernels or losses have no use for.
            total = total + 0 * sum(parameter.sum() for parameter in self.net.parameters() if parameter.requires_grad)
        return total

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """Restore and score the images of a batch, before training by the teacher as well."""
        if self.trainer.sanity_checking:
            data_set = list(data_sets(self.trainer, "val"))[dataloader_idx]
            self._exact_scores += self.score(self.restore_with(self.teacher, batch), batch, data_set)
        return super().validation_step(batch, batch_idx, dataloader_idx)

    def _conclude(self, stage: Literal["val", "test"]) -> Evaluation:
        evaluation = super()._conclude(stage)
        trainer = self.trainer
        if trainer.sanity_checking:
            exact = Evaluation(gather(self._exact_scores), evaluation.protocols, evaluation.expected)
            self._exact_scores = []
            self.figures = TuningFigures.of_start(exact, evaluation)
        elif trainer.state.fn == TrainerFn.FITTING and self.figures is not None:
            self.figures = self.figures.after(evaluation, trainer.global_step)
            folder = log_folder(trainer)
            if trainer.is_global_zero:
                self.figures.write(folder)
        return evaluation

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the figures; merge adapters into the weights, and keep them beside the weights to be trained on."""
        super().on_save_checkpoint(checkpoint)
        if self.figures is not None:
            checkpoint[FIGURES] = self.figures.state()
        if self.trainable == "adapters":
            checkpoint[ADAPTED] = checkpoint["state_dict"]
            weights = {key.removeprefix("net."): value for key, value in checkpoint[ADAPTED].items()}
            checkpoint["state_dict"] = {f"net.{key}": value for key, value in merge_lora(self.net, weights).items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another network; take the figures, and the adapters from beside the weights.

        Raises:
            ValueError: if a tensor is missing, unknown or of another shape, or only one of both has adapters.
        """
        if (self.trainable == "adapters") != (ADAPTED in checkpoint):
            raise ValueError(
                f"trainable ({self.trainable}) must be as ckpt_path was trained, got a checkpoint "
                f"{'with' if ADAPTED in checkpoint else 'without'} adapters: change it, or start from its weights "
                "with --model.pretrained"
            )
        if FIGURES in checkpoint:
            self.figures = TuningFigures(**checkpoint[FIGURES])
        if ADAPTED in checkpoint:
            checkpoint["state_dict"] = checkpoint[ADAPTED]
        super().on_load_checkpoint(checkpoint)
