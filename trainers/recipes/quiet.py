"""Warnings of libraries that are of no use to a user of `lowrank`."""

import logging
import warnings

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


def filter_warnings() -> None:
    """Silence warnings of libraries for the time of a command, once Lightning is imported.

    Lightning sets the levels of its loggers as it is imported.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # This logger names the process that died before it ends the others.
    logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script").setLevel(logging.INFO)
    for message in _NOISE:
        warnings.filterwarnings("ignore", message)
    # jsonargparse would write this sentence into the record in place of the value. As an error it lets jsonargparse try
    # the next type of a union, so that a list of attention factories is written as a list.
    warnings.filterwarnings("error", r"\s+Unable to serialize instance")
    # A user cannot change what one of these libraries deprecates in another.
    for category in (DeprecationWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category, module=r"(lightning|jsonargparse|torch\._inductor)\.")
