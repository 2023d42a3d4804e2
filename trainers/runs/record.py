"""The callback that keeps a run's record, `run.json` in its log folder."""

import json
import logging
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from datamodules.base.restoration import RestorationDataModule
from datamodules.files.atomic import atomic_file, remove_abandoned
from trainers.checkpoints.best import BestCheckpoint
from trainers.checkpoints.folders import folder_of_run
from trainers.checkpoints.last import LastCheckpoint
from trainers.checkpoints.lookup import log_folder
from trainers.checkpoints.run_checkpoint import note, notes
from trainers.checkpoints.stopping import at_its_end, job
from trainers.devices.choice import device_name
from trainers.devices.step_batches import recount
from trainers.errors import Stopped
from trainers.evaluation.data_sets import data_module
from trainers.evaluation.provenance import versions
from trainers.monitoring.lines import last_message
from trainers.runs.configuration import Configuration, decisive, differences
from trainers.runs.kept import run_folders
from trainers.runs.run import HEARTBEAT_SECONDS, RUN_FILE, Run, process_start, read_run, utc_now

Kind = TypeVar("Kind", bound=Checkpoint)
_logger = logging.getLogger(__name__)


class RunRecord(Checkpoint):
    """Keeps `run.json` up to date, and the configuration in every checkpoint, and refuses to resume with another one.

    It is written when training starts, after every checkpoint, every half minute and at the end, whatever that is.

    Args:
        accept_changes: go on from a checkpoint of a run with another configuration. The optimiser and its schedule keep
            the checkpoint's values all the same.

    Attributes:
        configuration: of this run; None if it was not started from the command line.
    """

    def __init__(self, accept_changes: bool = False) -> None:
        self.accept_changes = accept_changes
        self.configuration: Configuration | None = None
        self._folder = Path()
        self._run: Run | None = None
        self._beat = 0.0
        self._last_step = 0
        self._accumulated = 1

    def check(self, checkpoint: Mapping[str, Any]) -> None:
        """Refuse a checkpoint of a run with another configuration.

        Args:
            checkpoint: what was saved; nothing is known of one that holds no configuration.

        Raises:
            ValueError: if what the weights depend on differs, with every difference.
        """
        before = notes(checkpoint).get("configuration")
        if self.configuration is None or before is None or self.accept_changes:
            return
        changed = differences(decisive(before), decisive(self.configuration))
        if changed:
            shown = "\n  ".join(changed)
            raise ValueError(
                f"ckpt_path must be a checkpoint of the same configuration, got one that differs:\n  {shown}\n"
                "Use the config.yaml in the checkpoint's log folder, start afresh from its weights (--model.pretrained)"
                " or go on nonetheless (--run.accept_changes true; optimiser and schedule keep the checkpoint's values)"
            )

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the configuration to the checkpoint."""
        if self.configuration is not None:
            note(checkpoint, configuration=self.configuration)
        note(checkpoint, accumulated=self._accumulated)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Count this run's batches, where a step accumulates another number of them."""
        before = notes(checkpoint).get("accumulated", self._accumulated)
        # Data of other packages choose their batches themselves, so their counts stay.
        if before != self._accumulated and isinstance(data_module(trainer), RestorationDataModule):
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            recount(progress, before, self._accumulated)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the first record."""
        self._accumulated = trainer.accumulate_grad_batches
        if stage != TrainerFn.FITTING or trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by a connector
            return
        self._folder = log_folder(trainer)
        now = utc_now()
        self._run = Run(
            state="running",
            host=socket.gethostname(),
            process=os.getpid(),
            process_start=process_start(os.getpid()),
            job=job(),
            started=now,
            updated=now,
            max_steps=_limit(trainer.max_steps),
            max_epochs=_limit(trainer.max_epochs),
            # Lightning knows of it later, when the run may have ended already.
            resumed_from=_absolute((self.configuration or {}).get("ckpt_path")),
            configuration=self.configuration,
            monitor=next((callback.monitor for callback in _of(trainer, BestCheckpoint)), None),
            environment={
                "device": device_name(trainer.strategy.root_device),
                "processes": trainer.world_size,
                "threads": torch.get_num_threads(),
                "precision": str(trainer.precision),
                **versions(),
            },
        )
        self._write(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the checkpoint of a resumed run, and remove half-written files that killed runs left."""
        self._write(trainer, resumed_from=_absolute(trainer.ckpt_path))
        before = folder_of_run(trainer.ckpt_path) if trainer.ckpt_path is not None else None
        if trainer.is_global_zero:
            # Of several runs that were killed one after another, not every one had a checkpoint to go on from.
            folders = {*run_folders(trainer), *(before.parent.glob("*") if before is not None else ())}
            for folder in filter(Path.is_dir, folders):
                remove_abandoned(folder)
                clear_unfinished(folder / "checkpoints")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the record if a heartbeat is due or a checkpoint was saved."""
        self._live(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the record if a heartbeat is due."""
        self._live(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the best score."""
        if not trainer.sanity_checking:
            self._write(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Record the end of training, and whether its limit was reached."""
        self._write(trainer, state="finished" if at_its_end(trainer, trainer.current_epoch) else "stopped early")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Record why training ended."""
        if isinstance(exception, Stopped):
            self._write(trainer, state=exception.state, error=exception.message)
        elif isinstance(exception, KeyboardInterrupt):
            self._write(trainer, state="interrupted")
        elif isinstance(exception, SystemExit):
            self._write(trainer, state="terminated")
        else:
            self._write(trainer, state="failed", error=last_message(exception).splitlines()[0])

    def _live(self, trainer: Trainer) -> None:
        saved = any(callback.saved_step > self._last_step for callback in _of(trainer, LastCheckpoint))
        if saved or time.monotonic() - self._beat > HEARTBEAT_SECONDS:
            self._write(trainer)

    def _write(self, trainer: Trainer, **changed: Any) -> None:
        if self._run is None:
            return
        self._beat = time.monotonic()
        for last in _of(trainer, LastCheckpoint):
            self._last_step = last.saved_step
            if last.saved is not None:
                changed |= {"last_checkpoint": str(last.saved), "last_step": last.saved_step}
        for best in _of(trainer, BestCheckpoint):
            score = best.best_model_score
            changed["best"] = None if score is None else float(score)
            changed["best_checkpoint"] = best.best_model_path or None
        self._run = replace(
            self._run, updated=utc_now(), step=trainer.global_step, epoch=trainer.current_epoch, **changed
        )
        if trainer.is_global_zero:
            try:
                with atomic_file(self._folder / RUN_FILE) as file:
                    file.write(json.dumps(asdict(self._run), indent=2).encode())
            except OSError as error:
                # Training goes on as long as its checkpoints can be written.
                _logger.warning("the run's record (%s) could not be written: %s", self._folder / RUN_FILE, error)


def clear_unfinished(folder: Path) -> None:
    """Remove temporary files of checkpoints that a killed run left half-written; none of a run that still lives.

    On another machine its record tells whether it does; before the first record is written, the process's number.

    Args:
        folder: where the run's checkpoints are, in its log folder.
    """
    if folder.is_dir():
        remove_abandoned(folder)
    run = read_run(folder.parent)
    if run is not None and run.state != "running":
        for file in folder.glob(".*.ckpt.*.tmp"):
            file.unlink(missing_ok=True)


def _absolute(path: str | Path | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _of(trainer: Trainer, kind: type[Kind]) -> list[Kind]:
    return [callback for callback in trainer.callbacks if isinstance(callback, kind)]  # type: ignore[attr-defined]


def _limit(number: int | None) -> int | None:
    return None if number is None or number < 0 else number
