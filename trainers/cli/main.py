"""The command line: arguments in, exit status out."""

import io
import os
import select
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from trainers.cli.help import FLAGS, function_help, group_usage, trainer_help, usage
from trainers.cli.run_options import ALL
from trainers.cli.verbs import FUNCTION_VERBS, TRAINER_VERBS
from trainers.devices.memory import keep_freed_memory
from trainers.errors import Stopped, UsageError, explain, nearest, printable


def main(argv: Sequence[str] | None = None) -> int:
    """Run `lowrank` with some arguments.

    Modules in the working directory can be imported, so that a recipe or an option can name a class of the user's.

    Args:
        argv: arguments after the command's name; None for those of the process.

    Returns:
        Exit status: 0 after success; 1 if the reader of the output closed it; 2 after a user's mistake, which one
        message explains. Training that was stopped and has saved its state returns 130 after Ctrl-C, 143 after SIGTERM
        and 75 if SLURM will start the job again.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names of files may be no text at all; a message about one must not fail on it.
            stream.reconfigure(errors="backslashreplace")
    if argv is None:
        keep_freed_memory()
    handler = signal.getsignal(signal.SIGINT)
    try:
        status = _status(arguments)
    except BrokenPipeError:
        if not _output_is_closed():
            raise
        _discard_output()
        return 1
    finally:
        # Lightning leaves SIGINT ignored after Ctrl-C; a caller of this function would miss the next one.
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
    return status


def _status(arguments: list[str]) -> int:
    try:
        _add_working_directory()
        with warnings.catch_warnings():
            _run(arguments)
        # Python would report a closed pipe, or a full disk, only at its exit, as a traceback.
        sys.stdout.flush()
    except Stopped as stop:
        print("\n".join([stop.message, *getattr(stop, "__notes__", [])]), file=sys.stderr)
        return stop.status
    except SystemExit as exit_:
        # Lightning turns an interruption into SystemExit; --print_config exits with 0.
        if isinstance(exit_.__context__, KeyboardInterrupt):
            return _interrupted(exit_.__context__)
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except KeyboardInterrupt as interruption:
        return _interrupted(interruption)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _output_is_closed():
            raise
        message = explain(error)
        if message is None or os.environ.get("LOWRANK_TRACEBACK") == "1":
            raise
        # A file's name or contents may hold characters that a terminal would act on.
        shown = "\n".join(printable(line) for line in message.splitlines())
        print(f"error: {shown}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:
            _discard_output()
        return 2
    return 0


def _open_closed_streams() -> None:
    """Let output go nowhere where a stream was closed before the command; files would take its number."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w", closefd=False))  # noqa: SIM115  # for as long as the process


def _add_working_directory() -> None:
    """Let modules of the working directory be imported, after all that are installed."""
    try:
        folder = str(Path.cwd())
    except FileNotFoundError:
        raise UsageError("working directory must exist, got one that was removed: change to another") from None
    if Path(__file__).parents[2] != Path(folder):
        # At the end, where `python -m` has it first, so that a stray file hides no installed module.
        sys.path[:] = [place for place in sys.path if place not in ("", folder)] + [folder]


def _discard_output() -> None:
    """Let nothing be written any more of what was printed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _output_is_closed() -> bool:
    # Pipes to other processes break as well; flushing tells nothing where output is not buffered.
    poll = select.poll()
    poll.register(sys.stdout, select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _interrupted(interruption: BaseException) -> int:
    print("\n".join(["interrupted", *getattr(interruption, "__notes__", [])]), file=sys.stderr)
    return 130


def _run(arguments: list[str]) -> None:
    verb = arguments[0] if arguments else FLAGS[0]
    # Some verbs are of two words.
    double = " ".join(arguments[:2])
    if verb in FLAGS:
        print(usage())
    elif verb in TRAINER_VERBS:
        _run_recipe(verb, arguments[1:])
    elif double in FUNCTION_VERBS:
        _run_function(double, arguments[2:])
    elif verb in FUNCTION_VERBS:
        _run_function(verb, arguments[1:])
    else:
        verbs = [*TRAINER_VERBS, *FUNCTION_VERBS]
        grouped = any(known.startswith(f"{verb} ") for known in verbs)
        if grouped and arguments[1:2] in ([flag] for flag in FLAGS):
            print(group_usage(verb))
            return
        given = double if grouped else verb
        raise UsageError(f"verb ({given}) must be one of {', '.join(verbs)}{nearest(given, verbs)}")


def _run_recipe(verb: str, arguments: list[str]) -> None:
    if any(flag in arguments for flag in FLAGS):
        print(trainer_help(verb))
        return
    # Imported here: torch and Lightning take seconds, which help and other verbs do not need.
    if _without_value(arguments, "--model.help") or _without_value(arguments, "--data.help"):
        from trainers.recipes.classes import describe_classes

        print(describe_classes())
        return
    if _describes_classes(arguments):
        return
    from trainers.recipes.find import find_configs
    from trainers.recipes.lightning_cli import LowrankCLI

    arguments = ["--help" if argument == f"--{ALL}" else argument for argument in arguments]
    LowrankCLI(args=[verb, *find_configs(arguments)])


def _describes_classes(arguments: list[str]) -> bool:
    """Answer `--X.help` without a class, of an option that takes one of this package's."""
    asked = [word[2:-5] for word in arguments if word.startswith("--") and word.endswith(".help")]
    options = [option for option in asked if _without_value(arguments, f"--{option}.help")]
    if not options:
        return False
    from trainers.recipes.classes import CHOICES, describe_classes

    option = options[0]
    if option.rpartition(".")[2] not in CHOICES:
        return False
    print(describe_classes(option))
    return True


def _without_value(arguments: list[str], option: str) -> bool:
    if option not in arguments:
        return False
    following = arguments[arguments.index(option) + 1 :]
    return not following or following[0].startswith("-")


def _run_function(name: str, arguments: list[str]) -> None:
    verb = FUNCTION_VERBS[name]
    if any(flag in arguments for flag in FLAGS):
        print(function_help(name, verb))
        return
    if _describes_classes(arguments):
        return
    from trainers.cli.function_verb import call_function

    with _ended_by_sigterm():
        call_function(name, verb, arguments)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, so that nothing is left half-written."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    process = os.getpid()

    def end(number: int, _: FrameType | None) -> None:
        if os.getpid() != process:
            # A process that this one has forked has nothing to clear away.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        raise Stopped("SIGTERM: ended", "terminated", 128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
