"""What `test_distributed.py` starts in every process of a run: what each one saw and wrote is kept beside the logs."""

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from trainers.cli.main import main

CALLBACKS = "tests.trainers.devices.distributed_run"


class Names(Callback):
    """Writes the names of a process's samples to `<folder>/<stage>-<rank>.txt`."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def note(self, stage: str, trainer: Trainer, batch: Mapping[str, Any]) -> None:
        with (self.folder / f"{stage}-{trainer.global_rank}.txt").open("a") as file:
            file.writelines(f"{name}\n" for name in batch["name"])

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, _: int) -> None:
        self.note("train", trainer, batch)

    def on_validation_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, *_: int) -> None:
        if not trainer.sanity_checking:
            self.note("val", trainer, batch)

    def on_test_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, *_: int) -> None:
        self.note("test", trainer, batch)


class Dies(Callback):
    """Kills the second process after its first step."""

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, _: int) -> None:
        if trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def watch_writes(folder: Path, record: Path) -> None:
    """Note every file below a folder that this process opens to write."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not str(arguments[0]).startswith(str(folder)):
            return
        if arguments[2] & (os.O_WRONLY | os.O_RDWR):
            with record.open("a") as file:
                file.write(f"{arguments[0]}\n")

    sys.addaudithook(hook)


def run_all(folder: Path) -> None:
    """Train and test on two devices, then train in parts, shared out."""
    rank = os.environ["RANK"]
    watch_writes(folder / "logs", folder / f"writes-{rank}.txt")
    two = ["--config", str(folder / "recipe.yaml"), "--trainer.devices", "2"]
    names = [
        "--trainer.callbacks+",
        f"{CALLBACKS}.Names",
        "--trainer.callbacks.folder",
        str(folder),
    ]
    ddp = [*two, *names, "--trainer.strategy", "ddp", "--trainer.logger.init_args.name", "ddp"]
    sharded = [*two, "--trainer.strategy", "fully_sharded", "--trainer.logger.init_args.name", "sharded"]
    statuses = [
        main(["fit", *ddp]),
        main(["test", *ddp, "--ckpt_path", "last"]),
        main(["fit", *sharded, "--trainer.max_steps", "2"]),
        main(["fit", *sharded, "--ckpt_path", "last"]),
        main(["fit", *sharded, "--ema_decay", "0.9"]),
    ]
    (folder / f"status-{rank}.txt").write_text(" ".join(map(str, statuses)))


def run_commands(folder: Path, commands: list[list[str]]) -> None:
    """Run commands one after another, and note the exit status of each."""
    statuses = [main(command) for command in commands]
    (folder / f"status-{os.environ['RANK']}.txt").write_text(" ".join(map(str, statuses)))


if __name__ == "__main__":
    place = Path(sys.argv[1])
    if len(sys.argv) > 2:
        run_commands(place, json.loads(sys.argv[2]))
    else:
        run_all(place)
