"""Signals to the main process and to those beside it: none comes in the middle of the start of one."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def delayed_signals() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM act only after a block, in which processes are started or ended.

    An exception in the middle would leave the pool or the loader half made, and take away semaphores that a process
    opens as it begins. Processes that begin in the block do not end with a traceback either: what is forked takes
    note of signals alone, what is executed has SIGINT blocked. They choose their own way by `choose_handlers`.

    It does nothing in other threads than the main one, to which signals do not come.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        arrived.append(number)

    # None is a handler that Python does not know, and could not put back.
    previous = {int(number): signal.getsignal(number) for number in _ENDING if signal.getsignal(number) is not None}
    for number in previous:
        signal.signal(number, note)
    _mask_interruption("SIG_BLOCK")
    try:
        yield
    finally:
        _mask_interruption("SIG_UNBLOCK")
        for number, handler in previous.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(arrived):
            signal.raise_signal(number)


def choose_handlers(handlers: dict[signal.Signals, Any]) -> None:
    """Set a new process's handlers of signals, those that came since it began included.

    Args:
        handlers: a handler as `signal.signal` takes it for each signal.
    """
    for number, handler in handlers.items():
        signal.signal(number, handler)
    _mask_interruption("SIG_UNBLOCK")


def outlive_signals(worker: int) -> None:
    """Keep a worker alive when a scheduler signals its whole process group, until the loader ends.

    The main process finishes its step, which may need what the worker reads. The second signal ends the worker.

    Args:
        worker: its number.
    """
    names = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    choose_handlers(dict.fromkeys(numbers, lambda number, _: signal.signal(number, signal.SIG_DFL)))


def _mask_interruption(how: str) -> None:
    # Windows has no masks.
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(getattr(signal, how), {signal.SIGINT})
