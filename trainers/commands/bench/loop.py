"""The cost of the training loop over the bare step: the same batch, in turn, in one run."""

import copy
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from rich.console import Console
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, IterableDataset

from trainers.networks import in_unit_range
from trainers.reports.profiling import check_counts, use_threads
from trainers.reports.tables import Column, results_table, write_results
from trainers.tasks.base import ImageTask
from trainers.tasks.evaluation import Batch


@dataclass(frozen=True)
class Share:
    """Seconds of a step, medians over blocks of steps.

    Attributes:
        bare: forward, loss, backward and optimiser alone.
        loop: the same in the training loop.
        overhead: median over blocks of loop/bare, less 1; each block is compared with the bare one before it.
    """

    bare: float
    loop: float
    overhead: float


COLUMNS = (
    Column("batch", "batch", "d", 1),
    Column("clock", "clock"),
    Column("bare ms", "bare", ".2f", 1e3),
    Column("in the loop ms", "loop", ".2f", 1e3),
    Column("overhead", "overhead", "+.2f", 100, " %"),
)


def run_bench_loop(
    *,
    recipe: str = "demo/restormer_csa.yaml",
    size: int = 128,
    batch_sizes: tuple[int, ...] = (1, 4),
    blocks: int = 8,
    block: int = 25,
    threads: int = 2,
    accelerator: str = "cpu",
    output: Path | None = None,
) -> dict[int, dict[str, Share]]:
    """Time a recipe's steps in the training loop, as `lowrank fit` runs it, against the bare steps.

    The loop has all that `fit` gives it: callbacks, TensorBoard, the progress bar (drawn if this is a terminal), its
    checks of loss and gradient. Validation is left out, and loading of data: one random batch is used throughout.
    Blocks of bare steps, on a copy of the network, alternate with blocks in the loop.

    Args:
        recipe: file, or name of an installed recipe, of a task that calls its network with the input only.
        size: height and width of the patches.
        batch_sizes: patches of a batch, each >= 1, one run each.
        blocks: counted blocks of either kind, >= 1.
        block: steps of a block, >= 1; a multiple of the recipe's `log_every_n_steps` counts its logging evenly.
        threads: of the processor.
        accelerator: "cpu" or "cuda".
        output: JSON file for the figures; null: only the table.

    Returns:
        Batch size → "wall" (elapsed time) and "cpu" (processor time of all threads).

    Raises:
        ValueError: if a number is out of range.
    """
    check_counts(blocks=blocks, block=block, batch_sizes=min(batch_sizes, default=0))
    use_threads(threads)
    console = Console(markup=False, emoji=False)
    console.print(f"{recipe}, patches of {size}×{size}, {threads} threads, {blocks} blocks of {block} steps")
    results = {number: time_loop(recipe, size, number, blocks, block, accelerator) for number in batch_sizes}
    rows = [
        {"batch": number, "clock": clock, **asdict(share)}
        for number, row in results.items()
        for clock, share in row.items()
    ]
    console.print(results_table("a training step, medians over blocks", rows, COLUMNS))
    if output is not None:
        shares = {number: {clock: asdict(share) for clock, share in row.items()} for number, row in results.items()}
        settings = {"recipe": recipe, "size": size, "blocks": blocks, "block": block, "accelerator": accelerator}
        write_results(output, settings, shares)
    return results


def time_loop(recipe: str, size: int, batch_size: int, blocks: int, block: int, accelerator: str) -> dict[str, Share]:
    """Run one recipe with one batch size.

    Args:
        recipe: file, or name of an installed recipe, of a task that calls its network with the input only.
        size: height and width of the patches.
        batch_size: patches of a batch, >= 1.
        blocks: counted blocks of either kind, >= 1.
        block: steps of a block, >= 1.
        accelerator: "cpu" or "cuda".

    Returns:
        "wall" (elapsed time) and "cpu" (processor time of all threads).
    """
    from trainers.recipes.lightning_cli import train

    with TemporaryDirectory() as folder:
        trainer = train(
            [
                f"--config={recipe}",
                "--data=trainers.commands.bench.loop.AlternatingBatches",
                f"--data.size={size}",
                f"--data.batch_size={batch_size}",
                f"--data.block={block}",
                # These data have batches of their own.
                "--max_batch_per_device=null",
                # One block warms up.
                f"--trainer.max_steps={(blocks + 1) * block}",
                "--trainer.limit_val_batches=0",
                f"--trainer.accelerator={accelerator}",
                f"--trainer.logger.init_args.save_dir={folder}",
            ],
            summarise=False,
        )
    data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by a connector
    return data.shares()


class AlternatingBatches(LightningDataModule):
    """Serves one batch for ever, and between blocks of the loop's steps takes as many bare ones, on both clocks.

    Args:
        size: height and width of the patches.
        batch_size: their number.
        block: steps in a row of either kind.
    """

    def __init__(self, size: int, batch_size: int, block: int) -> None:
        super().__init__()
        self.size = size
        self.batch_size = batch_size
        self.block = block
        self.bare: list[tuple[float, float]] = []
        self.loop: list[tuple[float, float]] = []

    def train_dataloader(self) -> DataLoader[Batch]:
        """The batch, again and again."""
        return DataLoader(_Endless(self), batch_size=None)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Asked for, and not used."""
        return self.train_dataloader()

    def batches(self) -> Iterator[Batch]:
        """Take the bare steps of a block, then serve as many batches."""
        assert self.trainer is not None
        task = self.trainer.lightning_module
        if not isinstance(task, ImageTask):
            raise ValueError(f"recipe must be of an ImageTask, got {type(task).__name__}")
        torch.manual_seed(0)
        image = torch.rand(self.batch_size, 3, self.size, self.size)
        net = copy.deepcopy(task.net)
        with torch.no_grad():
            target = torch.rand_like(in_unit_range(net, image.to(task.device)).float())
        batch = {"input": image, "target": target.cpu(), "name": ["noise"] * self.batch_size}
        on_device = {"input": image.to(task.device), "target": target}
        optimizer = task.make_optimizer(net.parameters())
        while True:
            before = self._clocks(task.device)
            for _ in range(self.block):
                # What is fetched in the loop's gradient mode may be in another.
                with torch.enable_grad(), self.trainer.precision_plugin.forward_context():
                    bare_step(net, task.loss, optimizer, on_device)
            between = self._clocks(task.device)
            for _ in range(self.block):
                yield batch
            after = self._clocks(task.device)
            self.bare.append((between[0] - before[0], between[1] - before[1]))
            self.loop.append((after[0] - between[0], after[1] - between[1]))

    def shares(self) -> dict[str, Share]:
        """The figures, without the first block."""
        return {
            kind: Share(
                statistics.median(bare) / self.block,
                statistics.median(loop) / self.block,
                statistics.median(looped / alone for looped, alone in zip(loop, bare, strict=True)) - 1,
            )
            for kind, bare, loop in zip(
                ("wall", "cpu"), zip(*self.bare[1:], strict=True), zip(*self.loop[1:], strict=True), strict=True
            )
        }

    @staticmethod
    def _clocks(device: torch.device) -> tuple[float, float]:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter(), time.process_time()


class _Endless(IterableDataset[Batch]):
    def __init__(self, data: AlternatingBatches) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Batch]:
        return self.data.batches()


def bare_step(net: nn.Module, loss: nn.Module, optimizer: Optimizer, batch: Batch) -> None:
    """Forward, loss, backward, optimiser."""
    optimizer.zero_grad()
    output: Tensor = loss(in_unit_range(net, batch["input"]), batch["target"])
    output.backward()
    optimizer.step()
