"""A training run with this package's callbacks, records and checks, from a recipe or from Python."""

import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback

from glmha.shared.checkpoint_files import require_file
from trainers.checkpoints.agreement import SameCheckpoint
from trainers.checkpoints.atomic_io import AtomicCheckpointIO
from trainers.checkpoints.best import BestCheckpoint
from trainers.checkpoints.last import LastCheckpoint
from trainers.checkpoints.lookup import log_folder
from trainers.checkpoints.reader import read_by_this
from trainers.checkpoints.run_checkpoint import notes
from trainers.checkpoints.training_state import restoring, unfit
from trainers.devices.averaging import weight_averaging
from trainers.devices.step_batches import adapt
from trainers.evaluation.provenance import current_seed
from trainers.monitoring.attention import AttentionWatcher
from trainers.monitoring.images import ResultWriter, ValidationImages
from trainers.monitoring.lines import ProgressLines, report
from trainers.monitoring.progress import ProgressBar
from trainers.monitoring.tensorboard import Continuation, RunLogger
from trainers.monitoring.throughput import Throughput
from trainers.recipes.quiet import filter_warnings
from trainers.runs.kept import Kept, newest_checkpoint
from trainers.runs.record import RunRecord
from trainers.runs.resumption import checkpoint_to_resume, requeued
from trainers.runs.summary import describe_run
from trainers.tasks.base import ImageTask
from trainers.tasks.finetuning import FineTuningTask

TUNING_IMAGES = 8
"""Images of each validation set on which fine-tuning measures exact attention and its start."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that has come to its end.

    Attributes:
        folder: the log folder, with `run.json`, `checkpoints` and TensorBoard's events.
        trainer: the trainer, for instance to test with: `finished.trainer.test(task, data)`.

    Examples:
        >>> import contextlib, io, glmha, datamodules, trainers
        >>> net = glmha.Restormer(dim=4, num_blocks=[1] * 4, num_refinement_blocks=1, heads=[1] * 4)
        >>> data = datamodules.DemoDataModule(patch_size=16, batch_size=1, epoch_length=2, eval_size=16)
        >>> with contextlib.redirect_stdout(io.StringIO()):
        ...     finished = trainers.run(trainers.RestorationTask(net), data, max_steps=1, accelerator="cpu")
        >>> isinstance(finished, trainers.FinishedRun), (finished.folder / "run.json").is_file()
        (True, True)
    """

    folder: Path
    trainer: Trainer


def run(
    task: ImageTask,
    data: LightningDataModule,
    *,
    name: str = "",
    logs: Path | str = "logs",
    ckpt_path: Path | str | None = None,
    seed: int = 0,
    ema_decay: float | None = None,
    max_batch_per_device: int | None = None,
    best_checkpoint: BestCheckpoint | None = None,
    last_checkpoint: LastCheckpoint | None = None,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> FinishedRun:
    """Train a task as `lowrank fit` does, from Python.

    The log folder, `logs/name/version_N`, holds the run's record, `train.log`, the last and the best checkpoint and
    TensorBoard's events. Progress, the end on Ctrl-C or SIGTERM and the way to resume are those of the command. There
    is no `config.yaml`, because a task in memory has none: a resumed run has to be given the same task and data.

    Args:
        task: trained in place.
        data: training and validation batches.
        name: folder below `logs` for this run and those that resume it.
        logs: folder for all runs.
        ckpt_path: checkpoint to resume: a file; "last", the newest below `logs/name`; or "auto", the same, but a
            fresh start where there is none. None: a fresh start.
        seed: seed of the data's order and of the steps. (The network is initialised before.)
        ema_decay: decay of the average of the weights that is validated and kept, such as 0.999; None: no average.
        max_batch_per_device: samples that one device holds at once; a larger step is accumulated from several batches.
        best_checkpoint: which checkpoints are kept for their score; None: the one with the highest `val/psnr`, or
            none if the task does not measure that.
        last_checkpoint: when the last checkpoint is written, and how many are kept; None: after every validation.
        callbacks: further ones.
        **options: of Lightning's `Trainer`, such as `max_steps`, `accelerator` or `check_val_every_n_epoch`.

    Returns:
        The log folder and the trainer.

    Raises:
        ValueError: if the network cannot take the training patches, or `ckpt_path` is of another network or optimiser
            or of a run at its end.
        FileNotFoundError: if `ckpt_path` is "last" and there is none.
        KeyboardInterrupt: after Ctrl-C; its notes name the last checkpoint.
        Stopped: after SIGTERM, or the signal that announces the end of a SLURM job.

    Examples:
        >>> import contextlib, io, glmha, datamodules, trainers
        >>> net = glmha.Restormer(dim=4, num_blocks=[1] * 4, num_refinement_blocks=1, heads=[1] * 4)
        >>> task = trainers.RestorationTask(net)
        >>> data = datamodules.DemoDataModule(patch_size=16, batch_size=1, epoch_length=2, eval_size=16)
        >>> with contextlib.redirect_stdout(io.StringIO()):
        ...     finished = trainers.run(task, data, max_steps=2, accelerator="cpu", enable_progress_bar=False)
        >>> finished.folder.as_posix(), finished.trainer.global_step
        ('logs/version_0', 2)
        >>> sorted(path.name for path in (finished.folder / "checkpoints").iterdir())
        ['best-step=2.ckpt', 'last.ckpt']
    """
    record = RunRecord()
    kept: list[Callback] = [AttentionWatcher()]
    if options.get("enable_checkpointing") is not False:
        if best_checkpoint is None:
            best_checkpoint = BestCheckpoint(save_top_k=int("psnr" in task.metrics))
        kept = [best_checkpoint, last_checkpoint or LastCheckpoint(), AttentionWatcher(), record]
    with warnings.catch_warnings(), _interruptible():
        filter_warnings()
        seed_everything(seed, workers=True, verbose=False)
        trainer = Trainer(
            **{
                "logger": RunLogger(logs, name=name),
                "plugins": [AtomicCheckpointIO()],
                "enable_model_summary": False,
                "num_sanity_val_steps": sanity_images(task),
                "callbacks": [
                    *standard_callbacks(options.get("enable_progress_bar") is not False, ema_decay),
                    *kept,
                    *callbacks,
                ],
                **options,
            }
        )
        found = find_checkpoint(None if ckpt_path is None else str(ckpt_path), trainer)
        check_before_training(trainer, task, data, record, found, max_batch_per_device)
        with restoring(found):
            trainer.fit(task, data, ckpt_path=found)
        folder = log_folder(trainer)
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by a connector
            report(trainer, describe_run(trainer, folder))
    return FinishedRun(folder, trainer)


def standard_callbacks(progress_bar: bool, ema_decay: float | None) -> list[Callback]:
    """Make the callbacks that every run has, whoever starts it.

    Args:
        progress_bar: whether progress is shown; `train.log` is written in any case.
        ema_decay: decay of the weights' average; None: no average.
    """
    callbacks: list[Callback] = [SameCheckpoint(), ValidationImages(), ResultWriter(), Throughput(), Continuation()]
    callbacks.append(ProgressLines(printed=progress_bar))
    if progress_bar:
        callbacks.append(ProgressBar())
    if ema_decay is not None:
        callbacks.append(weight_averaging(ema_decay))
    return callbacks


def sanity_images(task: LightningModule) -> int:
    """Choose how many images of each validation set are restored before training, where the recipe does not.

    One shows whether validation works. Fine-tuning compares its end with its start on these images.
    """
    return TUNING_IMAGES if isinstance(task, FineTuningTask) else 1


def find_checkpoint(given: str | None, trainer: Trainer, *, resumes: bool = True) -> str | None:
    """Find the checkpoint that `ckpt_path` asks for.

    Args:
        given: file, "last", "best" or "auto"; None: none, but for a SLURM job that was started again.
        trainer: its logger determines where runs are kept.
        resumes: whether training goes on from it.

    Raises:
        CheckpointError: if it is an address, or no file.
        FileNotFoundError: if "last" or "best" is asked for, and there is none.
        ValueError: if the trainer's plugins or strategy read checkpoints otherwise than as data.
    """
    read_by_this(trainer)
    # The file's path goes into the record, because "last" may mean a newer file later. Lightning's own "last" knows
    # this process's checkpoints only.
    if resumes and (given == "auto" or requeued()):
        given = checkpoint_to_resume(given, trainer)
    found = str(newest_checkpoint(cast(Kept, given), trainer)) if given in get_args(Kept) else given
    # "hpc" is for Lightning to find.
    if found not in (None, "hpc"):
        require_file(found, "ckpt_path")
    return found


def check_before_training(
    trainer: Trainer,
    task: Any,
    data: LightningDataModule | None,
    record: RunRecord,
    ckpt_path: str | None,
    max_batch_per_device: int | None,
) -> None:
    """Fit the batches to the devices, and refuse patches and checkpoints that do not fit the task.

    Args:
        trainer: of the run.
        task: any; only an `ImageTask` is checked.
        data: of the run.
        record: of the run; it compares the configuration with the checkpoint's, also where it is no callback.
        ckpt_path: checkpoint to resume; None: a fresh start.
        max_batch_per_device: samples that one device holds at once; None: no limit.

    Raises:
        ValueError: if something does not fit.
    """
    batches = adapt(trainer, data, max_batch_per_device)
    if batches is not None and (batches.devices > 1 or batches.accumulated > 1) and trainer.is_global_zero:
        print(batches.describe(), flush=True)
    # Lightning would make a log folder first.
    if isinstance(task, ImageTask):
        task.check_patches(data)
        # "hpc" is for Lightning to find.
        if ckpt_path not in (None, "hpc"):
            load = trainer.strategy.checkpoint_io.load_checkpoint
            checkpoint = load(ckpt_path)
            try:
                task.check_resumption(checkpoint, trainer)
                record.check(checkpoint)
            except (LookupError, TypeError, AttributeError) as error:
                raise unfit(error) from error
            if current_seed() is None and "seed" in notes(checkpoint):
                torch.manual_seed(notes(checkpoint)["seed"])
            if trainer.is_global_zero:
                print(f"resuming from {ckpt_path} (step {checkpoint['global_step']})", flush=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C arrive as KeyboardInterrupt, and keep Python's handler of it."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as exit_:
        # Lightning turns an interruption into an exit, which would end a notebook's kernel.
        if isinstance(exit_.__context__, KeyboardInterrupt):
            raise exit_.__context__ from None
        raise
    finally:
        # Lightning leaves Ctrl-C ignored once it was pressed.
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
