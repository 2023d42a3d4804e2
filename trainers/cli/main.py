"""The command line: Lightning's verbs on tasks and data modules, and verbs that are plain functions."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence

from lightning.pytorch.utilities.exceptions import SIGTERMException

from trainers.checkpoints.stopping import TERMINATED
from trainers.cli.verbs import FUNCTION_VERBS, TRAINER_VERBS, call_function, usage
from trainers.errors import Stopped, UsageError, explain, nearest
from trainers.recipes.find import find_configs
from trainers.recipes.lightning_cli import LowrankCLI
from trainers.recipes.quiet import filter_warnings


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
            filter_warnings()
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


def _interrupted(interruption: BaseException) -> int:
    print("\n".join(["interrupted", *getattr(interruption, "__notes__", [])]), file=sys.stderr)
    return 130


def _run(arguments: list[str]) -> None:
    verb = arguments[0] if arguments else "--help"
    # Some verbs are of two words.
    double = " ".join(arguments[:2])
    if verb in ("-h", "--help"):
        print(usage())
    elif verb in TRAINER_VERBS:
        LowrankCLI(args=[verb, *find_configs(arguments[1:])])
    elif double in FUNCTION_VERBS:
        call_function(double, FUNCTION_VERBS[double], arguments[2:])
    elif verb in FUNCTION_VERBS:
        call_function(verb, FUNCTION_VERBS[verb], arguments[1:])
    else:
        verbs = [*TRAINER_VERBS, *FUNCTION_VERBS]
        given = double if any(known.startswith(f"{verb} ") for known in verbs) else verb
        raise UsageError(f"verb ({given}) must be one of {', '.join(verbs)}{nearest(given, verbs)}")
