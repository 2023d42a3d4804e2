"""Work shared out among processes that end with the one that started them."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2

from datamodules.signals import choose_handlers, delayed_signals

Item = TypeVar("Item")
Result = TypeVar("Result")

# Items that wait beside those at work, for each process: enough that none idles, few enough to hold in memory.
_AHEAD = 4


def run(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Call a function for every item, in several processes at once.

    Args:
        function: importable by name.
        items: taken one after another, a few ahead of what is done.
        workers: processes, at least 0; 0 calls it in this one.

    Yields:
        The results in the order of the items.

    Raises:
        ValueError: if `workers` is negative, or the system ended a process, as it does when memory runs out.
    """
    if workers < 0:
        raise ValueError(f"workers ({workers}) must be at least 0; 0 works in the main process")
    if workers == 0:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    pool = ProcessPoolExecutor(workers, mp_context=_context(), initializer=_start)
    try:
        for item in items:
            # The first ones start processes.
            with delayed_signals():
                waiting.append(pool.submit(function, item))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise ValueError(
            f"workers ({workers}) must fit into memory, got a process that was ended by the system; lower workers"
        ) from error
    finally:
        with delayed_signals():
            pool.shutdown(cancel_futures=True)


def _context() -> multiprocessing.context.BaseContext:
    # A server that has imported the package once forks processes quickly; a fork of this one copies threads' locks.
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["datamodules.preparation.crops"])
    return context


def _start() -> None:
    """Prepare a process: the main one answers Ctrl-C, and takes this one with it however it ends."""
    choose_handlers({signal.SIGINT: signal.SIG_IGN})
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
