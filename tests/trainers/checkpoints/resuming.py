"""Runs in processes of their own that are killed at a chosen moment and resumed: what `test_resume` is made of.

`python -m tests.trainers.checkpoints.resuming` goes through every moment with every kind of run and prints which
ended in the weights of a run that was never stopped (80 processes, some minutes; the tests take a part of it).
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from datamodules.files.images import write_image

# A server that has imported everything forks each run off: importing takes longer than a run.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["trainers.recipes.lightning_cli", "nystra.hosts.swinir.network", "datamodules.restoration.folders", __name__]
)

EMA = [{"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.7}}]
STAGES = [{"start": 3, "patch_size": 16, "batch_size": 1}, {"start": 6, "patch_size": 8, "batch_size": 3}]

KINDS: dict[str, list[str]] = {
    "plain": [],
    "2 workers": ["--data.num_workers", "2"],
    "EMA": [f"--trainer.callbacks={EMA}"],
    "stages": [f"--data.stages={STAGES}"],
    "accumulation": ["--trainer.accumulate_grad_batches", "2"],
    "all": [
        "--data.num_workers",
        "2",
        f"--trainer.callbacks={EMA}",
        f"--data.stages={STAGES}",
        "--trainer.accumulate_grad_batches",
        "2",
    ],
}
"""What a run may have: options of `lowrank fit`."""


def write_recipe(folder: Path) -> Path:
    """A recipe of 10 steps on epochs of 6 batches, validated after 4 of each, and the pictures that it needs."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for index in range(count):
            target = np.linspace(0, 1, 24)[:, None, None] * np.linspace(1, 0, 32)[:, None] * rng.random(3)
            for kind, image in (("target", target), ("input", target + 0.1 * rng.standard_normal(target.shape))):
                path = folder / "pairs" / split / kind / f"{split}{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_image(path, (image.clip(0, 1) * 255).astype(np.uint8))
    roots = {
        f"{split}_{kind}": str(folder / "pairs" / split / kind)
        for split in ("train", "val")
        for kind in ("input", "target")
    }
    config: dict[str, Any] = {
        "seed_everything": 3,
        "trainer": {
            "accelerator": "cpu",
            "max_steps": 10,
            "val_check_interval": 4,
            "num_sanity_val_steps": 1,
            "enable_progress_bar": False,
            "logger": {
                "class_path": "lightning.pytorch.loggers.CSVLogger",
                "init_args": {"save_dir": str(folder / "logs"), "name": "run"},
            },
        },
        "last_checkpoint": {"every_n_train_steps": 2},
        "model": {
            "class_path": "trainers.RestorationTask",
            "init_args": {
                # Whole residual branches are left out at random.
                "net": {
                    "class_path": "nystra.hosts.swinir.SwinIR",
                    "init_args": {
                        "upscale": 1,
                        "img_size": 16,
                        "window_size": 8,
                        "depths": [2],
                        "embed_dim": 4,
                        "num_heads": [1],
                        "mlp_ratio": 1.0,
                        "upsampler": "",
                        "drop_rate": 0.1,
                        "drop_path_rate": 0.5,
                    },
                },
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
                "scheduler": {
                    "class_path": "torch.optim.lr_scheduler.CosineAnnealingLR",
                    "init_args": {"T_max": 10},
                },
                "metrics": [{"class_path": "trainers.metrics.PSNR"}],
            },
        },
        "data": {
            "class_path": "datamodules.PairedFolderDataModule",
            "init_args": roots | {"patch_size": 16, "batch_size": 2, "repeat": 3, "num_workers": 0},
        },
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _dies(owner: Any, name: str, call: int, *, after: bool = False) -> None:
    """Let a function's call of that number, from 1, be the last thing that the process does."""
    original, calls = getattr(owner, name), iter(range(1, 10**6))

    def replacement(*arguments: Any, **options: Any) -> Any:
        last = next(calls) == call
        if last and not after:
            _die()
        result = original(*arguments, **options)
        if last:
            _die()
        return result

    setattr(owner, name, replacement)


def in_a_step(call: int) -> None:
    """Die after the forward pass of this batch."""
    from trainers import RestorationTask

    _dies(RestorationTask, "training_step", call, after=True)


def in_an_update(call: int) -> None:
    """Die when the optimiser has changed the weights, but nobody has counted it."""
    _dies(torch.optim.AdamW, "step", call, after=True)


def in_a_validation(call: int) -> None:
    """Die before this image is restored."""
    from trainers import RestorationTask

    _dies(RestorationTask, "validation_step", call)


def in_a_write(call: int) -> None:
    """Die when half of this checkpoint is written."""
    from trainers.checkpoints import last as checkpoints

    save, calls = torch.save, iter(range(1, 100))

    def save_half(checkpoint: Any, file: Any) -> None:
        save(checkpoint, file)
        if next(calls) == call:
            file.flush()
            file.truncate(file.tell() // 2)
            _die()

    checkpoints.torch.save = save_half


def before_a_renaming(call: int) -> None:
    """Die when this checkpoint is on the disk, under its temporary name."""
    original, calls = Path.replace, iter(range(1, 100))

    def replace(self: Path, target: Path) -> Path:
        if Path(target).suffix == ".ckpt" and next(calls) == call:
            _die()
        return original(self, target)

    Path.replace = replace


def between_steps(call: int) -> None:
    """Die after this batch, a checkpoint included if one was due."""
    from trainers.checkpoints.last import LastCheckpoint

    _dies(LastCheckpoint, "on_train_batch_end", call, after=True)


MOMENTS: dict[str, Callable[[], None]] = {
    "in a step": partial(in_a_step, 8),
    "in the optimiser's update": partial(in_an_update, 7),
    # The first image is the sanity check's; a validation has two.
    "in a validation": partial(in_a_validation, 5),
    "while a checkpoint is written": partial(in_a_write, 5),
    "before it is renamed": partial(before_a_renaming, 5),
    "between two steps": partial(between_steps, 9),
}
"""When a run is killed: each prepares a process to kill itself then."""


def _run(folder: Path, arguments: Sequence[str], prepare: Callable[[], None] | None) -> None:
    os.chdir(folder)
    with (folder / "output.txt").open("a") as output:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(output.fileno(), stream.fileno())
    torch.set_num_threads(1)
    # Data are loaded by processes forked off this one, as ever on this system.
    multiprocessing.set_start_method("fork", force=True)
    from trainers.cli.main import main

    if prepare is not None:
        prepare()
    status = main(list(arguments))
    sys.stdout.flush()
    sys.exit(status)


def run(folder: Path, arguments: Sequence[str], prepare: Callable[[], None] | None = None) -> int:
    """Run `lowrank` in a process of its own.

    Args:
        folder: the working directory; what is printed is added to `output.txt` there.
        arguments: after the command's name.
        prepare: called in the process before.

    Returns:
        Exit status; of a killed process the signal's number with a minus sign.
    """
    process = PROCESSES.Process(target=_run, args=(folder, list(arguments), prepare))
    process.start()
    process.join(120)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError((folder / "output.txt").read_text())
    return process.exitcode


@dataclass(frozen=True)
class Ends:
    """What training comes to: weights, averages, optimiser, schedule, place in the data, the best score.

    Attributes:
        values: of the last checkpoint, by name.
    """

    values: dict[str, Any]

    @staticmethod
    def of(logs: Path) -> "Ends":
        """Those of the newest last checkpoint below a folder."""
        last = max(logs.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
        checkpoint = torch.load(last, weights_only=True)
        kept = (
            "state_dict",
            "current_model_state",
            "averaging_state",
            "optimizer_states",
            "lr_schedulers",
            "global_step",
        )
        values = {name: checkpoint[name] for name in kept if name in checkpoint}
        values["loaders"] = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
        best = next(state for name, state in checkpoint["callbacks"].items() if name.startswith("BestCheckpoint"))
        values["best"] = (str(best["best_model_score"]), Path(best["best_model_path"]).name)
        return Ends(values)

    def differing(self, other: "Ends") -> list[str]:
        """Names of what is not the same to the last bit."""
        names = self.values | other.values
        return [name for name in names if not _same(self.values.get(name), other.values.get(name))]


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    return bool(first == second)


def command(folder: Path, recipe: Path, *options: str) -> list[str]:
    """`lowrank fit` that logs to a folder."""
    return ["fit", "--config", str(recipe), "--trainer.logger.init_args.save_dir", str(folder / "logs"), *options]


def straight(folder: Path, recipe: Path, *options: str) -> Ends:
    """Let a run go to its end."""
    return killed(folder, recipe, *options, moments=[])


def killed(folder: Path, recipe: Path, *options: str, moments: Sequence[Callable[[], None]]) -> Ends:
    """Kill a run at a moment, resume it, kill it again at the next, and resume it to its end at last."""
    folder.mkdir(parents=True)
    arguments = command(folder, recipe, *options)
    for moment in moments:
        status = run(folder, arguments, moment)
        assert status == -signal.SIGKILL, f"{moment}: {status}: {(folder / 'output.txt').read_text()}"
        arguments = [*command(folder, recipe, *options), "--ckpt_path", "last"]
    status = run(folder, arguments)
    assert status == 0, f"{status}: {(folder / 'output.txt').read_text()}"
    return Ends.of(folder / "logs")


def main() -> None:
    """Print the matrix: moments down, kinds of runs across."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = write_recipe(folder)
        ends = {kind: straight(folder / kind, recipe, *options) for kind, options in KINDS.items()}
        print(f"| killed | {' | '.join(KINDS)} |\n|---|{'---|' * len(KINDS)}", flush=True)
        for moment, prepare in MOMENTS.items():
            cells = []
            for kind, options in KINDS.items():
                found = killed(folder / f"{kind} {moment}", recipe, *options, moments=[prepare])
                differing = found.differing(ends[kind])
                cells.append("other: " + ", ".join(differing) if differing else "identical")
            print(f"| {moment} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
