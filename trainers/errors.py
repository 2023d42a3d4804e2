"""What can go wrong, by name, and one clear message for each mistake of a user's."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

UNION_MISMATCH = "Does not validate against any of the Union subtypes"
"""How jsonargparse begins its report of a value that is of none of a union's types."""


class NonFiniteError(RuntimeError):
    """Training met NaN or infinity; the weights are still those of the step before."""


class Stopped(SystemExit):
    """Training was told to end by a signal, and has saved where it was.

    Args:
        message: what happened.
        state: as `lowrank runs` calls it.
        status: the process's exit status.
    """

    def __init__(self, message: str, state: str, status: int) -> None:
        super().__init__(status)
        self.status = status
        self.message = message
        self.state = state


_WORKER = re.compile(r"Caught \w+ in DataLoader worker.*\n[\w.]+: (?P<message>.*)\Z", re.DOTALL)
# What is left of another process of a run: its end of the line.
_PEER = re.compile(r"Connection (closed|reset) by peer|Broken pipe|Remote process|NCCL error")
# A convolution that is given an image of another kind.
_CHANNELS = re.compile(r"Given groups=1, .* to have (?P<wanted>\d+) channels, but got (?P<found>\d+) channels")


class UsageError(ValueError):
    """A command line or recipe that does not say what can be done."""


def explain(error: Exception) -> str | None:
    """Say in a few words what a user did wrong and how to put it right.

    Args:
        error: what ended the command.

    Returns:
        The message, without "error:"; None if this is no mistake of the user's but a bug.
    """
    # Imported here: commands that need neither begin in a fraction of the time.
    import torch
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    # What the packages and Lightning raise for input that cannot be used; anything else is a bug and keeps its
    # traceback.
    mistakes = (ValueError, OSError, MisconfigurationException, NonFiniteError, torch.OutOfMemoryError)
    root: BaseException = error
    while str(root).startswith((UNION_MISMATCH, "Problem with given class_path")) and root.__cause__ is not None:
        # jsonargparse wraps what a constructor raises, and of a union's types reports each that failed; the cause is
        # the first one's, which is the one that was meant.
        root = root.__cause__
    message = str(root)
    if channels := _CHANNELS.match(message):
        return (
            f"images ({channels['found']} channels) must have the channels that the net takes ({channels['wanted']}): "
            "change --data.channels or the net"
        )
    if isinstance(root, torch.distributed.DistError) or (type(root) is RuntimeError and _PEER.search(message)):
        return "\n".join(
            [
                "another process of this run has ended, so this one cannot go on: look for that one's message "
                f"({message.splitlines()[0]})",
                *getattr(error, "__notes__", []),
            ]
        )
    if not isinstance(root, mistakes):
        return None
    if isinstance(root, torch.OutOfMemoryError):
        message = (
            f"the device must hold the network and its batch, got: {message.splitlines()[0]} "
            "Lower --max_batch_per_device, add --model.checkpoint_activations true, or evaluate in tiles (--model.tile)"
        )
    elif isinstance(root, OSError) and root.strerror:
        message = f"file ({root.filename}) must be usable, got: {root.strerror}"
    in_worker = _WORKER.match(message)
    return "\n".join([in_worker["message"] if in_worker else message, *getattr(error, "__notes__", [])])


def nearest(name: str, known: Iterable[str]) -> str:
    """The ending "; did you mean …?" of a message, or nothing if no known name is like `name`."""
    matches = get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]}?" if matches else ""
