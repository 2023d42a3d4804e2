"""Lightning's command line on this package's tasks: defaults, callbacks, steps of a batch, the saved recipe."""

import json
import warnings
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from trainers.checkpoints.best import BestCheckpoint
from trainers.checkpoints.last import LastCheckpoint
from trainers.checkpoints.lookup import log_folder
from trainers.checkpoints.stopping import TERMINATED
from trainers.checkpoints.training_state import restoring
from trainers.errors import RunFinishedError, Stopped, UsageError
from trainers.monitoring.attention import AttentionWatcher
from trainers.monitoring.lines import report
from trainers.monitoring.tensorboard import own_loggers
from trainers.names import restrict_names
from trainers.recipes.find import find_configs
from trainers.recipes.options import CKPT_PATH, EMA_DECAY, MAX_BATCH_PER_DEVICE
from trainers.recipes.parser import RecipeParser
from trainers.recipes.parser_messages import given_options, refuse_options_of_others, usage_error
from trainers.recipes.quiet import filter_warnings
from trainers.recipes.training import check_before_training, find_checkpoint, sanity_images, standard_callbacks
from trainers.recipes.yaml_text import bounded_yaml
from trainers.runs.log_folders import missing_log_folders, remove_unused
from trainers.runs.record import RunRecord
from trainers.runs.summary import describe_run

LOGGER = {
    "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
    "init_args": {"save_dir": "logs", "name": ""},
}


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
        return LowrankCLI(args=["fit", *find_configs(list(arguments))], summarise=summarise).trainer


class SaveConfig(SaveConfigCallback):
    """Saves the recipe of a run as `config.yaml` in its log folder."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save the recipe, and refuse a log folder that holds another run's."""
        try:
            super().setup(trainer, pl_module, stage)
        except RuntimeError as error:
            raise FileExistsError(
                f"log folder ({trainer.log_dir}) must not hold another run's {self.config_filename}: choose another "
                "(--trainer.logger.init_args.version, --trainer.logger.init_args.name)"
            ) from error


class LowrankCLI(LightningCLI):
    """Lightning's command line with this package's callbacks, defaults and records.

    Args:
        args: the verb and what follows it; recipes are paths of files.
        summarise: whether a training ends with a summary.
    """

    def __init__(self, args: list[str], *, summarise: bool = True) -> None:
        self.summarise = summarise
        self._verb = args[0]
        self._new_folders: list[Path] = []
        try:
            self._run(args)
        except BaseException as exception:
            remove_unused(self._new_folders)
            if isinstance(exception, SIGTERMException):
                # Training saves its state and raises Stopped; of an evaluation there is nothing to save.
                raise Stopped("SIGTERM: ended", "terminated", TERMINATED) from exception
            raise

    def _run(self, args: list[str]) -> None:
        filter_warnings()
        restrict_names()
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
            parser_class=RecipeParser,
            parser_kwargs={"prog": "lowrank", "exit_on_error": False, "allow_abbrev": False},
            auto_configure_optimizers=False,
            # Tasks save no hyper-parameters: config.yaml is the record.
            load_from_checkpoint_support=False,
            args=args,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # a function of no instance in the base class
        """Return the one verb that is run: to make a parser of each takes a third of a second."""
        return {self._verb: LightningCLI.subcommands()[self._verb]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options that are neither the trainer's, nor the task's, nor the data's."""
        parser.add_argument(
            "--max_batch_per_device",
            type=int | None,
            default=None,
            help=MAX_BATCH_PER_DEVICE,
        )
        parser.add_argument(
            "--ema_decay",
            type=float | None,
            default=None,
            help=EMA_DECAY,
        )
        parser.add_lightning_class_args(BestCheckpoint, "best_checkpoint")
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
        parser.add_lightning_class_args(AttentionWatcher, "watch")
        parser.add_lightning_class_args(RunRecord, "run")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer with the callbacks that every run has."""
        options = self.config_init[self.subcommand].trainer
        if options.log_every_n_steps is not None and options.log_every_n_steps < 1:
            raise UsageError(f"trainer.log_every_n_steps ({options.log_every_n_steps}) must be at least 1")
        if options.enable_checkpointing is False:
            self._parser(self.subcommand).callback_keys[:] = ["watch"]
        self.trainer_defaults["callbacks"] = standard_callbacks(
            options.enable_progress_bar is not False, self.config_init[self.subcommand].ema_decay
        )
        # Recipes and saved configurations keep the name of Lightning's logger.
        kwargs["logger"] = own_loggers(self.config[self.subcommand].trainer.logger, options.logger)
        if options.num_sanity_val_steps is None and not options.barebones:
            kwargs["num_sanity_val_steps"] = sanity_images(self.model)
        try:
            return super().instantiate_trainer(**kwargs)
        except TypeError as error:
            # Of values that fit an option's type and that nothing can be made of.
            raise UsageError(f"trainer must be made of options that Lightning takes, got: {error}") from error

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments, and reduce the parser's report of a mistake to one message."""
        verb = args[0]
        own = self._parser(verb)
        if verb in ("validate", "test"):
            # The task prints a table of its own.
            own.set_defaults(verbose=False)
        if verb == "predict":
            # Restored images are saved one by one; Lightning would keep all of them in memory as well.
            own.set_defaults(return_predictions=False)
        next(action for action in own._actions if action.dest == "ckpt_path").help = CKPT_PATH[verb]
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            raise usage_error(error, [action.dest for action in own._actions]) from error
        self._require_sections(verb)
        config = self.config[verb]
        refuse_options_of_others(verb, args[1:], {part: config[part].class_path for part in ("model", "data")})
        if config.trainer.logger is not False and "trainer.default_root_dir" in given_options(args[1:]):
            raise UsageError(
                f"option --trainer.default_root_dir ({config.trainer.default_root_dir}) must be left out where a "
                "logger chooses the folder: give --trainer.logger.save_dir"
            )
        # Lightning's option; configurations of earlier runs hold it.
        if config.weights_only is False:
            raise UsageError("weights_only (false) must be left out: checkpoints are read as data, never executed")

    def _require_sections(self, verb: str) -> None:
        """Refuse what is no section in the place of one; the parser would pass over it, or make nothing of it."""
        given: list[Mapping[str, Any]] = [self.config[verb].as_dict()]
        given += [
            bounded_yaml(Path(str(path)).read_text(encoding="utf-8-sig")) for path in self.config[verb].config or ()
        ]
        destinations = (action.dest for action in self._parser(verb)._actions)
        # Task and data may be a class's name.
        sections = {name.partition(".")[0] for name in destinations if "." in name} - {"model", "data"}
        for content in given:
            for name in sorted(sections & content.keys()):
                if not isinstance(content[name], Mapping):
                    shown = "null" if content[name] is None else content[name]
                    raise UsageError(
                        f"{name} ({shown}) must hold options and their values; leave it out for the defaults"
                    )

    def after_instantiate_classes(self) -> None:
        """Find the checkpoint that `--ckpt_path` asks for, and note which log folders are not there yet."""
        if self.trainer.is_global_zero:
            self._new_folders = missing_log_folders(self.trainer)
        options = self.config_init[self.subcommand]
        self._goes_on = options.ckpt_path == "auto"
        found = find_checkpoint(options.ckpt_path, self.trainer, resumes=self.subcommand == "fit")
        options.ckpt_path = self.config[self.subcommand].ckpt_path = found

    def before_fit(self) -> None:
        """Check the checkpoint that is resumed, and fit the batches to the devices."""
        options = self.config_init.fit
        # Its check is asked for also where it is no callback (enable_checkpointing false).
        record: RunRecord = options.run
        # As the run's own `config.yaml` is read, in which what is a class's default is written out. The recipe's name
        # is left out: it does not matter to the weights.
        parser = self._parser("fit")
        again = parser.parse_string(parser.dump(self.config.fit, skip_validation=True))
        record.configuration = json.loads(json.dumps({**again.as_dict(), "config": None}, default=str))
        limit = options.max_batch_per_device
        try:
            check_before_training(self.trainer, self.model, self.datamodule, record, options.ckpt_path, limit)
        except RunFinishedError as error:
            if not self._goes_on:
                raise
            # A script that starts a run again until it is finished ends with it.
            raise Stopped(f"nothing is left to do for {options.ckpt_path}: {error}", "finished", 0) from None

    def after_fit(self) -> None:
        """Report where the results are."""
        # Nothing is kept of a rehearsal.
        if self.trainer.fast_dev_run or not self.summarise:  # type: ignore[attr-defined]  # set by a connector
            return
        report(self.trainer, describe_run(self.trainer, log_folder(self.trainer)))

    def _run_subcommand(self, subcommand: str) -> None:
        with restoring(self.config_init[subcommand].ckpt_path):
            super()._run_subcommand(subcommand)

    def _parse_ckpt_path(self) -> None:
        # The base class would search the checkpoint for hyper-parameters, which this package's tasks never save.
        return
