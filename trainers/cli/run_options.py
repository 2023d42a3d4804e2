"""The options of fit, validate, test and predict that their help shows, of about seventy and those of classes."""

from dataclasses import dataclass

from trainers.cli.signature import read_signature
from trainers.recipes.options import CKPT_PATH, EMA_DECAY, MAX_BATCH_PER_DEVICE

CALLBACKS = {
    "best_checkpoint": ("trainers.checkpoints.best", "BestCheckpoint"),
    "last_checkpoint": ("trainers.checkpoints.last", "LastCheckpoint"),
    "watch": ("trainers.monitoring.attention", "AttentionWatcher"),
    "run": ("trainers.runs.record", "RunRecord"),
}
"""Prefix of options → the class that they configure, whose docstring describes them."""
ALL = "help_all"
"""The option that shows every option, Lightning's included."""


@dataclass(frozen=True)
class Option:
    """An option as help shows it.

    Attributes:
        name: its name, without the dashes.
        metavar: a word for its values; empty if it takes none.
        text: what it does.
    """

    name: str
    metavar: str
    text: str


_RECIPE = (
    Option("config", "FILE", "recipe, here or among the installed ones; given again, later files change earlier ones"),
    Option("print_config", "", "print the recipe with all other options applied, and exit"),
)
_CLASSES = (
    Option("model", "CLASS", "task, such as trainers.RestorationTask; its options are --model.NAME VALUE"),
    Option("model.help", "[CLASS]", "describe the options of a task, its networks and losses, and exit"),
    Option("data", "CLASS", "data module, such as datamodules.PairedFolderDataModule; options: --data.NAME VALUE"),
    Option("data.help", "[CLASS]", "describe the options of a data module, and exit"),
)
_SEED = Option("seed_everything", "INT", "seed of weights, crops and their order (default: 0)")
_TRAINING = (
    Option("trainer.max_steps", "INT", "optimiser steps of the whole run; -1: no limit"),
    Option("trainer.max_epochs", "INT", "epochs of the whole run; null: no limit"),
    Option("trainer.max_time", "DD:HH:MM:SS", "longest time; the run ends after a step and can be resumed"),
    Option("trainer.val_check_interval", "INT|FLOAT", "steps, or share of an epoch, between two validations"),
    Option("trainer.check_val_every_n_epoch", "INT", "epochs between two validations; null: count steps alone"),
    Option("trainer.log_every_n_steps", "INT", "steps between two logged values (default: 50)"),
    Option("trainer.gradient_clip_val", "FLOAT", "largest norm of the gradient; null: gradients are not clipped"),
)
_DEVICES = (
    Option("trainer.accelerator", "TEXT", "auto, cpu, gpu or mps (default: auto)"),
    Option("trainer.devices", "INT", "number of devices, or a list of them; auto: all (default: auto)"),
    Option("trainer.precision", "TEXT", "32-true, bf16-mixed, 16-mixed or bf16-true (default: 32-true)"),
)
_LOGGING = (
    Option("trainer.logger", "CLASS", "logger; options of TensorBoard's: --trainer.logger.name, .save_dir, .version"),
    Option("trainer.enable_progress_bar", "[true|false]", "show progress (default: true)"),
)
_REHEARSAL = Option("trainer.fast_dev_run", "[true|false]", "rehearse with one batch, and write nothing")
_LIMITS = {
    "fit": Option("trainer.limit_val_batches", "INT|FLOAT", "validate on so many images, or on this share of them"),
    "validate": Option("trainer.limit_val_batches", "INT|FLOAT", "score so many images, or this share of them"),
    "test": Option("trainer.limit_test_batches", "INT|FLOAT", "score so many images, or this share of them"),
    "predict": Option("trainer.limit_predict_batches", "INT|FLOAT", "restore so many images, or this share of them"),
}
_HELP = (
    Option("help", "", "show this page, and exit"),
    Option(ALL, "", "show every option, Lightning's included, and exit"),
)


def run_options(verb: str) -> dict[str, tuple[Option, ...]]:
    """The options that the help of a verb shows.

    Args:
        verb: fit, validate, test or predict.

    Returns:
        Title of a group → its options.
    """
    checkpoint = Option("ckpt_path", "FILE|last|auto" if verb == "fit" else "FILE|last|best", CKPT_PATH[verb])
    groups = {
        "recipe and checkpoint": (*_RECIPE, checkpoint),
        "task and data": _CLASSES,
    }
    if verb == "fit":
        groups |= {
            "training": (
                _SEED,
                *_TRAINING,
                _LIMITS[verb],
                Option("max_batch_per_device", "INT", MAX_BATCH_PER_DEVICE),
                Option("ema_decay", "FLOAT", EMA_DECAY),
                _REHEARSAL,
            ),
            "devices": _DEVICES,
            "checkpoints and records": (*_LOGGING, *_of_callbacks()),
        }
    else:
        groups |= {"evaluation": (_LIMITS[verb], *_DEVICES, *_LOGGING)}
    return groups | {"help": _HELP}


def _of_callbacks() -> list[Option]:
    options = []
    for prefix, (module, name) in CALLBACKS.items():
        for argument in read_signature(module, name).arguments:
            options.append(Option(f"{prefix}.{argument.name}", argument.metavar, argument.described))
    return options
