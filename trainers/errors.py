"""Errors by name, and one clear message for each mistake of a user."""

import re
import sys
import traceback
from collections.abc import Iterable
from difflib import get_close_matches

UNION_MISMATCH = "Does not validate against any of the Union subtypes"
"""The beginning of jsonargparse's report on a value that is of none of a union's types."""


class NonFiniteError(RuntimeError):
    """Training met NaN or infinity; the weights are still those of the step before.

    Examples:
        >>> from trainers import NonFiniteError
        >>> issubclass(NonFiniteError, RuntimeError)
        True
    """


class Stopped(SystemExit):
    """A signal ended training, which has saved its state.

    Args:
        message: the signal, and the checkpoint that was saved.
        state: the run's state in `run.json`, which `lowrank runs` shows.
        status: the process's exit status.
    """

    def __init__(self, message: str, state: str, status: int) -> None:
        super().__init__(status)
        self.status = status
        self.message = message
        self.state = state


_WORKER = re.compile(r"Caught \w+ in DataLoader worker.*\n[\w.]+: (?P<message>.*)\Z", re.DOTALL)
# The end of the connection to another process of a run is all that its failure leaves here.
_PEER = re.compile(r"Connection (closed|reset) by peer|Broken pipe|Remote process|NCCL error")
# Of a device, of torch's allocator on the processor, or of NumPy's.
_MEMORY = re.compile(
    r"(\w+ )?out of memory|DefaultCPUAllocator: can't allocate memory|Unable to allocate", re.IGNORECASE
)
# The end of a loader's process is all that is left of it.
_LOADER = re.compile(r"DataLoader worker \(pid\S* [\d, ]+\) (exited unexpectedly|is killed by signal: [\w ]+)")
_SIZE = re.compile(r"negative dimension:? (-\d+)")
# Of a whole number that no machine counts to; torch adds frames of its own.
_TOO_LARGE = re.compile(
    r"[Oo]verflow when unpacking|int too (large|big) to convert|[Ss]torage size calculation overflow"
)
# torch tells no more of a disk that is full.
_WRITER = re.compile(r"PytorchStreamWriter failed|inline_container\.cc.*unexpected pos")
# A convolution got an image with another number of channels.
_CHANNELS = re.compile(r"Given groups=1, .* to have (?P<wanted>\d+) channels, but got (?P<found>\d+) channels")


class RunFinishedError(ValueError):
    """A run that is to be gone on with has come to its end."""


class UsageError(ValueError):
    """A command line or a recipe cannot be carried out as it is written."""


def is_memory_error(error: BaseException) -> bool:
    """Return whether the memory of the machine or of a device did not suffice."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_MEMORY.search(str(error))))


def explain(error: Exception) -> str | None:
    """Explain a user's mistake in a few words, with its remedy.

    Args:
        error: what ended the command.

    Returns:
        The message, without "error:"; None if the error is a bug rather than a user's mistake.
    """
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
    # torch and Lightning raise nothing before they are imported, and an import takes seconds.
    torch = sys.modules.get("torch")
    lightning = sys.modules.get("lightning.pytorch.utilities.exceptions")
    disconnected = torch is not None and isinstance(root, torch.distributed.DistError)
    if disconnected or (type(root) is RuntimeError and _PEER.search(message)):
        message = (
            "another process of this run has ended, so this one cannot go on: look for that one's message "
            f"({message.splitlines()[0]})"
        )
    elif torch is not None and isinstance(root, torch.linalg.LinAlgError):
        message = (
            f"attention must have finite values, got NaN, Inf or a singular system ({message.splitlines()[0]}): choose "
            "another checkpoint, kernel or precision"
        )
    elif is_memory_error(root):
        found = _MEMORY.search(message)
        message = (
            "memory must hold the network and its batch, got: "
            f"{message[found.start() :].splitlines()[0] if found else message or 'none left'}. "
            "Lower --max_batch_per_device, add --model.checkpoint_activations true, or evaluate in tiles (--model.tile)"
        )
    elif isinstance(root, RuntimeError) and (ended := _LOADER.search(message)):
        message = (
            f"a process that loads data has ended ({ended[0]}), for want of memory or because it was killed: lower "
            "--data.num_workers, or free memory"
        )
    elif isinstance(root, RuntimeError) and (size := _SIZE.search(message)):
        message = f"a size of the net ({size[1]}) must be at least 1; change the recipe's --model.net"
    elif isinstance(root, TypeError | RuntimeError | OverflowError) and _TOO_LARGE.search(message):
        message = (
            "a size must be below 2**63, and what it makes must fit into memory, got more; look through the options"
        )
    elif isinstance(root, ZeroDivisionError) and _raised_by(root, "lr_scheduler.py"):
        message = "a length of the schedule (0) must be at least 1; change T_max, step_size or the like of its options"
    elif isinstance(root, RuntimeError) and _WRITER.search(message):
        message = "a file could not be written whole, and nothing is left of it: free space, or write elsewhere"
    elif isinstance(root, OSError) and root.strerror:
        message = (
            f"file ({root.filename}) must be usable, got: {root.strerror}"
            if root.filename is not None
            else f"files must be usable, got: {root.strerror}; free space, or check where the command reads and writes"
        )
    elif not (
        isinstance(root, ValueError | OSError | NonFiniteError)
        or (lightning is not None and isinstance(root, lightning.MisconfigurationException))
    ):
        # The packages and Lightning raise these for input that cannot be used. All else is a bug: it keeps its
        # traceback.
        return None
    in_worker = _WORKER.match(message)
    return "\n".join([in_worker["message"] if in_worker else message, *getattr(error, "__notes__", [])])


def printable(text: str) -> str:
    """Write out the characters that a terminal would act on, such as escapes in a file's name."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def _raised_by(error: BaseException, file: str) -> bool:
    """Whether an error was raised in a file of that name."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.endswith(file)


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like `name`, or begins with it; None if there is no such name."""
    names = list(known)
    begun = [other for other in names if other.casefold().startswith(name.casefold())]
    return next(iter([*get_close_matches(name, names, n=1), *begun]), None)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the ending "; did you mean …?" of a message, or nothing if no known name is like `name`."""
    match = nearest_name(name, known)
    return "" if match is None else f"; did you mean {match}?"
