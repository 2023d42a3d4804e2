"""The command line: Lightning's verbs on tasks and data modules, and verbs that are plain functions."""

import inspect
import json
import logging
import os
import signal
import sys
import threading
import warnings
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from trainers.callbacks import ResultWriter, ValidationImages
from trainers.checkpoints import TERMINATED, BestCheckpoint, LastCheckpoint, log_folder, newest_checkpoint
from trainers.errors import Stopped
from trainers.hardware import adapt, weight_averaging
from trainers.messages import UsageError, explain, nearest, usage_error
from trainers.progress import ProgressBar
from trainers.run_record import RunRecord, checkpoint_to_resume, requeued
from trainers.summary import describe_run
from trainers.task import ImageTask
from trainers.throughput import Throughput
from trainers.watchers import AttentionWatcher

TRAINER_VERBS = {
    "fit": "train a network as a recipe says (--config), or resume (--ckpt_path FILE | last | auto)",
    "validate": "score a checkpoint on the recipe's validation sets",
    "test": "score a checkpoint on the recipe's test sets",
    "predict": "restore the recipe's test sets and save the images",
}


@dataclass(frozen=True)
class FunctionVerb:
    """A verb that calls a plain function, imported when it is asked for.

    Attributes:
        module: where the function is.
        function: its name; its arguments are the verb's options.
        description: one line for `lowrank --help`.
        positional: the argument that is given without a name: one value, or a list, which may be left out if the
            function has a default for it. None: no such.
    """

    module: str
    function: str
    description: str
    positional: str | None = None


FUNCTION_VERBS = {
    "analyze complexity": FunctionVerb(
        "trainers.analyze",
        "analyze_complexity",
        "parameters and multiply-adds: the paper's tables beside the counts",
        positional="tables",
    ),
    "analyze spectrum": FunctionVerb(
        "trainers.analyze", "analyze_spectrum", "what rank a checkpoint's attention has on images", positional="images"
    ),
    "analyze warmstart": FunctionVerb(
        "trainers.analyze_warm_start",
        "analyze_warm_start",
        "what a start from dense weights is worth to GLMHA, on trained modules",
    ),
    "bench": FunctionVerb("trainers.bench", "run_bench", "time and memory of whole networks, side by side in one run"),
    "bench attention": FunctionVerb(
        "trainers.bench_attention", "run_bench_attention", "time of window attention alone, kernel by kernel"
    ),
    "bench loop": FunctionVerb(
        "trainers.bench_loop", "run_bench_loop", "what the training loop costs over the bare step"
    ),
    "bench windows": FunctionVerb(
        "trainers.bench_windows", "run_bench_windows", "time of whole window-attention networks, kernel by kernel"
    ),
    "compare": FunctionVerb(
        "trainers.compare", "run_compare", "a released window-attention model under other kernels, side by side"
    ),
    "demo": FunctionVerb(
        "trainers.demo", "run_demo", "train small networks on bundled photographs and compare them", positional="parts"
    ),
    "export": FunctionVerb(
        "trainers.export", "export_weights", "write a checkpoint's weights alone, for the original code to read"
    ),
    "prepare": FunctionVerb(
        "trainers.prepare",
        "run_prepare",
        "check a downloaded data set, and cut the crops to train on",
        positional="dataset",
    ),
    "restore": FunctionVerb(
        "trainers.restore", "restore_images", "restore images of any size with a checkpoint", positional="images"
    ),
    "runs": FunctionVerb(
        "trainers.runs",
        "run_runs",
        "list the runs below a folder: what they differ in, how far they came, how to go on",
        positional="folders",
    ),
}

PARTS = ("net/", "data/", "attention/")
"""Folders of what recipes include, or what is given with one; no recipes themselves."""

LOGGER = {
    "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
    "init_args": {"save_dir": "logs", "name": ""},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `lowrank` with some arguments.

    Args:
        argv: arguments after the command's name; None: the process's own.

    Returns:
        Exit status: 0; 2 after a mistake of the user's (told in one message); of training that was stopped and has
        saved where it was, 130 after Ctrl-C, 143 after SIGTERM, 75 if SLURM will start the job again.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings():
            _filter_warnings()
            _run(arguments)
    except Stopped as stop:
        print("\n".join([stop.message, *getattr(stop, "__notes__", [])]), file=sys.stderr)
        return stop.status
    except SIGTERMException:
        # Nothing is saved of an evaluation.
        print("SIGTERM: ended", file=sys.stderr)
        return TERMINATED
    except SystemExit as exit_:
        # Lightning turns an interruption into an exit of its own; --help and --print_config exit with 0.
        if isinstance(exit_.__context__, KeyboardInterrupt):
            return _interrupted(exit_.__context__)
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except KeyboardInterrupt as interruption:
        return _interrupted(interruption)
    except Exception as error:
        message = explain(error)
        if message is None or os.environ.get("LOWRANK_TRACEBACK") == "1":
            raise
        print(f"error: {message}", file=sys.stderr)
        return 2
    finally:
        # Lightning leaves Ctrl-C ignored once it was pressed: who calls this as a function would be deaf to the next.
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
    return 0


def fit(arguments: Sequence[str]) -> Path:
    """Train as `lowrank fit` does, from Python.

    Args:
        arguments: options of `lowrank fit`; recipes are found as there.

    Returns:
        The run's log folder.
    """
    return log_folder(train(arguments))


def train(arguments: Sequence[str], *, summarise: bool = True) -> Trainer:
    """Train as `fit` does.

    Args:
        arguments: see `fit`.
        summarise: say at the end where everything is.

    Returns:
        The trainer, at its end.
    """
    with warnings.catch_warnings():
        _filter_warnings()
        return _LowrankCLI(args=["fit", *_find_configs(list(arguments))], summarise=summarise).trainer


def _interrupted(interruption: BaseException) -> int:
    print("\n".join(["interrupted", *getattr(interruption, "__notes__", [])]), file=sys.stderr)
    return 130


def _run(arguments: list[str]) -> None:
    verb = arguments[0] if arguments else "--help"
    # Some verbs are of two words.
    double = " ".join(arguments[:2])
    if verb in ("-h", "--help"):
        print(_usage())
    elif verb in TRAINER_VERBS:
        _LowrankCLI(args=[verb, *_find_configs(arguments[1:])])
    elif double in FUNCTION_VERBS:
        _call(double, FUNCTION_VERBS[double], arguments[2:])
    elif verb in FUNCTION_VERBS:
        _call(verb, FUNCTION_VERBS[verb], arguments[1:])
    else:
        verbs = [*TRAINER_VERBS, *FUNCTION_VERBS]
        given = double if any(known.startswith(f"{verb} ") for known in verbs) else verb
        raise UsageError(f"verb ({given}) must be one of {', '.join(verbs)}{nearest(given, verbs)}")


def _usage() -> str:
    verbs = TRAINER_VERBS | {name: verb.description for name, verb in FUNCTION_VERBS.items()}
    width = max(map(len, verbs))
    lines = [f"  {name:{width}}  {description}" for name, description in verbs.items()]
    return "\n".join(
        ["usage: lowrank VERB [options]", "", "verbs:", *lines, "", "lowrank VERB --help lists a verb's options."]
    )


def _call(name: str, verb: FunctionVerb, arguments: list[str]) -> None:
    function = getattr(import_module(verb.module), verb.function)
    parser = ArgumentParser(prog=f"lowrank {name}", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="file with values of these options")
    skip: set[str | int] = set()
    if verb.positional is not None:
        argument = inspect.signature(function).parameters[verb.positional]
        if get_origin(argument.annotation) is Literal:
            parser.add_argument(verb.positional, type=argument.annotation, help=f"which {verb.positional}")
        elif argument.default is inspect.Parameter.empty:
            (kind,) = get_args(argument.annotation)
            parser.add_argument(verb.positional, nargs="+", type=kind, help=f"one or more {verb.positional}")
        else:
            (kind,) = get_args(argument.annotation)
            parser.add_argument(
                verb.positional, nargs="*", type=kind, default=argument.default, help=f"any number of {verb.positional}"
            )
        skip.add(verb.positional)
    parser.add_function_arguments(function, skip=skip)
    for action in parser._actions:
        if getattr(action, "_typehint", None) is bool:
            # `--verify` says as much as `--verify true`.
            action.nargs, action.const = "?", True
    try:
        config = parser.parse_args(_find_configs(arguments))
    except ArgumentError as error:
        raise usage_error(error, [action.dest for action in parser._actions]) from error
    values = parser.instantiate(config).as_dict()
    del values["config"]
    function(**values)


def _find_configs(arguments: list[str]) -> list[str]:
    """Replace recipes that are not in the working directory by the installed ones of that name."""
    found = list(arguments)
    for index, argument in enumerate(arguments):
        if argument.startswith("--config="):
            found[index] = f"--config={_find_config(argument.removeprefix('--config='))}"
        elif index and arguments[index - 1] in ("--config", "-c"):
            found[index] = _find_config(argument)
    return found


def _find_config(name: str) -> str:
    installed = Path(str(files("configs")))
    path = Path(name)
    # Recipes are called the same whether the repository is the working directory or not.
    inner = path.relative_to("configs") if path.parts[:1] == ("configs",) else path
    for candidate in (path, installed / inner):
        if candidate.is_file():
            return str(candidate)
    found = (str(path.relative_to(installed)) for path in sorted(installed.rglob("*.yaml")))
    recipes = [recipe for recipe in found if not recipe.startswith(PARTS)]
    raise FileNotFoundError(
        f"config ({name}) must be a file, got none of that name here or among the installed recipes "
        f"({', '.join(recipes)}){nearest(str(inner), recipes)}"
    )


class SaveConfig(SaveConfigCallback):
    """Saves the recipe of a run as `config.yaml` in its log folder."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save it; a log folder that holds another run's is refused."""
        try:
            super().setup(trainer, pl_module, stage)
        except RuntimeError as error:
            raise FileExistsError(
                f"log folder ({trainer.log_dir}) must not hold another run's {self.config_filename}: choose another "
                "(--trainer.logger.init_args.version, --trainer.logger.init_args.name)"
            ) from error


class _LowrankCLI(LightningCLI):
    def __init__(self, args: list[str], *, summarise: bool = True) -> None:
        self.summarise = summarise
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=SaveConfig,
            seed_everything_default=0,
            trainer_defaults={
                "logger": LOGGER,
                "plugins": [{"class_path": "trainers.checkpoints.AtomicCheckpointIO"}],
                "enable_model_summary": False,
                "callbacks": [],
            },
            parser_kwargs={"prog": "lowrank", "exit_on_error": False, "allow_abbrev": False},
            auto_configure_optimizers=False,
            # Tasks save no hyper-parameters: config.yaml is the record.
            load_from_checkpoint_support=False,
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--max_batch_per_device",
            type=int | None,
            default=None,
            help="samples of a batch on one device: more of data.batch_size, which are a step's, are accumulated",
        )
        parser.add_argument(
            "--ema_decay",
            type=float | None,
            default=None,
            help="decay of the average of the weights that is validated and kept, such as 0.999; null: no average",
        )
        parser.add_lightning_class_args(BestCheckpoint, "best_checkpoint")
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
        parser.add_lightning_class_args(AttentionWatcher, "watch")
        parser.add_lightning_class_args(RunRecord, "run")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        options = self.config_init[self.subcommand].trainer
        callbacks: list[Callback] = [ValidationImages(), ResultWriter(), Throughput()]
        if options.enable_progress_bar is not False:
            callbacks.append(ProgressBar())
        decay = self.config_init[self.subcommand].ema_decay
        if decay is not None:
            callbacks.append(weight_averaging(decay))
        if options.enable_checkpointing is False:
            self._parser(self.subcommand).callback_keys[:] = ["watch"]
        self.trainer_defaults["callbacks"] = callbacks
        return super().instantiate_trainer(**kwargs)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        for verb in ("validate", "test"):
            # The task prints a table of its own.
            self._parser(verb).set_defaults(verbose=False)
        # Restored images are saved one by one; Lightning would keep all of them in memory as well.
        self._parser("predict").set_defaults(return_predictions=False)
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            options = [action.dest for action in self._parser(args[0])._actions]
            raise usage_error(error, options) from error

    def after_instantiate_classes(self) -> None:
        options = self.config_init[self.subcommand]
        given = options.ckpt_path
        # The record gets the file: its next user may find a newer one. Lightning knows of this process's own only.
        if self.subcommand == "fit" and (given == "auto" or requeued()):
            given = checkpoint_to_resume(given, self.trainer)
        if given in ("last", "best"):
            given = str(newest_checkpoint(given, self.trainer))
        options.ckpt_path = self.config[self.subcommand].ckpt_path = given

    def before_fit(self) -> None:
        options = self.config_init.fit
        # Its check is asked for also where it is no callback (enable_checkpointing false).
        record: RunRecord = options.run
        # Plain values, as files hold them; the recipes' own names say nothing.
        record.configuration = json.loads(json.dumps({**self.config.fit.as_dict(), "config": None}, default=str))
        plan = adapt(self.trainer, self.datamodule, options.max_batch_per_device)
        if plan is not None and (plan.devices > 1 or plan.accumulated > 1) and self.trainer.is_global_zero:
            print(plan.describe(), flush=True)
        # Lightning would make a log folder first.
        if isinstance(self.model, ImageTask):
            self.model.check_patches(self.datamodule)
            # "hpc" is for Lightning to find.
            if options.ckpt_path not in (None, "hpc"):
                load = self.trainer.strategy.checkpoint_io.load_checkpoint
                checkpoint = load(options.ckpt_path, weights_only=options.weights_only)
                self.model.check_resumption(checkpoint, self.trainer)
                record.check(checkpoint)
                if self.trainer.is_global_zero:
                    print(f"resuming from {options.ckpt_path} (step {checkpoint['global_step']})", flush=True)

    def after_fit(self) -> None:
        # Nothing is kept of a rehearsal.
        if self.trainer.fast_dev_run or not self.summarise:  # type: ignore[attr-defined]  # set by a connector
            return
        folder = log_folder(self.trainer)
        if self.trainer.is_global_zero:
            print(describe_run(self.trainer, folder))

    def _parse_ckpt_path(self) -> None:
        # The base class would read the checkpoint for hyper-parameters that ours never hold.
        return


# Advice that a recipe's user can do nothing about, or need not.
_NOISE = (
    "LightningCLI's args parameter is intended",
    "The number of training batches .* is smaller than the logging interval",
    "The '.*_dataloader' does not have many workers",
    "Checkpoint directory .* exists and is not empty",
    # A recipe may do without validation.
    "Total length of `list` across ranks is zero",
    "You're using the WeightAveraging callback, but loading a checkpoint outside the 'fit' stage",
    "You're using the WeightAveraging callback with a model that overrides the configure_model",
    # Kernels of depth-wise convolutions have strides in which 1 is ambiguous.
    "Grad strides do not match bucket view strides",
    # Evaluation counts each image once, however many a distributed sampler repeats.
    "Using `DistributedSampler` with the dataloaders",
    # A resumed run has a log folder of its own.
    "The dirpath has changed",
)


def _filter_warnings() -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It says which process died before it ends the others.
    logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script").setLevel(logging.INFO)
    for message in _NOISE:
        warnings.filterwarnings("ignore", message)
    # jsonargparse would write this sentence into the record instead of the value. As an error it makes it try the next
    # type of a union: a list of attention factories is then written as such.
    warnings.filterwarnings("error", r"\s+Unable to serialize instance")
    # What these libraries deprecate of each other is theirs to change.
    for category in (DeprecationWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category, module=r"(lightning|jsonargparse|torch\._inductor)\.")
