"""Fine-tuning after a substitution: released weights, larger windows, another kernel, and the quality won back."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import nystra
from nystra.sites import attention_record
from nystra.sites.site import BiasMode
from trainers.checkpoints.best import BestCheckpoint
from trainers.networks import load_network
from trainers.tasks.finetuning import FineTuningTask

Kernels = nystra.Kernel | dict[str, nystra.Kernel]


class SubstitutionTask(FineTuningTask):
    """Trains a released window-attention network whose attention was exchanged.

    The student is the network of `pretrained` in `window_size` with `kernel`; the teacher is the released network, with
    exact attention in its trained windows. Checkpoints hold plain weights of the original architecture and, beside
    them, windows and kernels (`nystra.sites.attention_record`), which `nystra.load_pretrained` restores.

    Args:
        pretrained: SwinIR, Uformer, DehazeFormer or RVRT, or `network`, as released or as fine-tuned by this task;
            loaded strictly.
        kernel: for all window attentions, or by name or glob pattern, the first that matches counts; None: as recorded
            in `pretrained`, else exact attention.
        network: function or class that makes a network of another library, as package.module:name; its attention is
            adopted (`nystra.adopt`). None: a network of this package, which the checkpoint tells.
        plan: file of a plan, from lowrank analyze plan, whose kernels are taken instead of `kernel`; None: none.
        window_size: side of the windows; None: as recorded, else as trained.
        position_bias: what becomes of the position bias in larger windows, see `nystra.load_pretrained`.
        kernel_schedule: other kernels from a step of the optimiser on, such as ever fewer landmarks; before the first,
            `kernel` holds.
        teacher: checkpoint of the teacher; None: `pretrained`.
        **kwargs: of `FineTuningTask`.

    Raises:
        CheckpointError: if a checkpoint cannot be read or is of no such network.
        ValueError: if a kernel does not fit a window or cannot be recorded, a step is below 1, or teacher and student
            are of different networks.

    Examples:
        >>> import nystra, torch
        >>> from nystra.hosts.swinir.network import SwinIR
        >>> from trainers import SubstitutionTask
        >>> net = SwinIR(upscale=1, img_size=16, window_size=8, depths=[2], embed_dim=4, num_heads=[1], upsampler="")
        >>> torch.save(net.state_dict(), "released.pth")
        >>> task = SubstitutionTask("released.pth", nystra.LandmarkPooling(4, 16), window_size=16)
        >>> {str(site.kernel) for site in nystra.find_sites(task.net).values()}
        {"LandmarkPooling(landmarks=4, cells=16, near='cross')"}
        >>> sum(parameter.requires_grad for parameter in task.teacher.parameters())
        0
    """

    def __init__(
        self,
        pretrained: str | Path,
        kernel: Kernels | None = None,
        *,
        network: str | None = None,
        plan: Path | None = None,
        window_size: int | None = None,
        position_bias: BiasMode | None = None,
        kernel_schedule: dict[int, Kernels] | None = None,
        teacher: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        if plan is not None:
            if kernel is not None:
                raise ValueError(
                    f"kernel ({kernel}) must be null with plan ({plan}), which has a kernel for every site"
                )
            kernel = nystra.Plan.load(plan).kernels
        net, exact = (
            _load(pretrained, network, window_size=window_size, position_bias=position_bias),
            _load(pretrained if teacher is None else teacher, network, recorded=False),
        )
        if _shapes(exact) != _shapes(net):
            raise ValueError(
                f"teacher ({teacher}) must be of the size of pretrained ({type(net).__name__}), got a "
                f"{type(exact).__name__} of other parameters: give the released checkpoint of the same network"
            )
        phases: dict[int, Mapping[str, Any]] = {}
        for step, kernels in [(0, kernel), *sorted((kernel_schedule or {}).items())]:
            if step < 1 and (step or phases):
                raise ValueError(f"kernel_schedule ({step}) must begin at step 1 or later: kernel holds before")
            if kernels is not None:
                nystra.substitute(net, kernels)
            # Encoded now, so that a kernel that cannot be is refused before it has been trained with.
            phases[step] = attention_record.record(net)
        self._phases = phases
        attention_record.apply(net, self._phases[0])
        super().__init__(net, exact, **kwargs)
        self.pretrained = pretrained
        distils = self.teacher_image or self.teacher_attention
        if distils and teacher is None and attention_record.record(_load(pretrained, network)):
            raise ValueError(
                f"teacher (null) must be the released checkpoint where pretrained ({pretrained}) was fine-tuned with "
                "other windows or kernels: its weights are not made for exact attention (--model.teacher)"
            )

    def on_fit_start(self) -> None:
        """Prepare the run as the base class does; report kernels whose step never comes."""
        super().on_fit_start()
        last, steps = max(self._phases), self.trainer.max_steps
        if -1 < steps <= last and self.trainer.is_global_zero:
            print(f"kernel_schedule: step {last} is not reached with max_steps {steps}: an earlier kernel is the last")

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the step as the base class does, and take its kernel."""
        super().on_train_batch_start(batch, batch_idx)
        phase = self._phases[max(step for step in self._phases if step <= self.trainer.global_step)]
        if attention_record.record(self.net) != phase:
            attention_record.apply(self.net, phase)
            # A score with another kernel is no score of this one.
            for callback in self.trainer.callbacks:  # type: ignore[attr-defined]  # set by a connector
                if isinstance(callback, BestCheckpoint):
                    callback.start_again()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check the checkpoint as the base class does, and take the kernels that its weights were trained with.

        Raises:
            ValueError: if a tensor is missing, unknown or of another shape, or windows or kernels are not the recipe's.
        """
        super().on_load_checkpoint(checkpoint)
        attention_record.apply(self.net, checkpoint.get(attention_record.KEY, {}))

    def attention_records(self) -> Sequence[Mapping[str, Any]]:
        """Return the records of all phases of the kernel schedule, the first one first."""
        return list(self._phases.values())


def _load(source: str | Path, network: str | None, **options: Any) -> nn.Module:
    return load_network(source, network, **options) if network else nystra.load_pretrained(source, **options)


def _shapes(net: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in net.named_parameters()}
