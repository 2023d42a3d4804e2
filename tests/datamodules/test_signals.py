"""Signals as processes are started: they act afterwards, and no process ends with a traceback."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
import torch
from torch.utils.data import TensorDataset

from datamodules.loading.resumable import WorkerLoader
from datamodules.signals import delayed_signals, outlive_signals

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Ended(Exception):
    """Raised by this file's handler of SIGTERM."""


@pytest.fixture(autouse=True)
def handlers():
    """Handlers that raise, as those of a command do."""

    def end(number, frame):
        raise Ended

    before = {number: signal.signal(number, end) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("numbers", [NUMBERS[:1], NUMBERS[1:], NUMBERS[:1] * 2])
def test_a_signal_acts_after_the_block(numbers):
    passed = []

    def work():
        with delayed_signals():
            for number in numbers:
                os.kill(os.getpid(), number)
            passed.append(True)

    with pytest.raises(Ended):
        work()
    assert passed
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_signal_comes_before_an_error_that_it_caused():
    def work():
        with delayed_signals():
            os.kill(os.getpid(), signal.SIGINT)
            raise ConnectionError

    with pytest.raises(Ended) as raised:
        work()
    assert isinstance(raised.value.__context__, ConnectionError)


def test_signals_that_are_ignored_stay_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with delayed_signals():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_other_threads_are_left_alone():
    found = []

    def work():
        with delayed_signals():
            found.append(signal.getsignal(signal.SIGINT))

    handler = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [handler]


@pytest.mark.parametrize("number", NUMBERS)
def test_workers_of_a_loader_are_started_whole(monkeypatch, capfd, number):
    begin, begun = torch.multiprocessing.Process.start, []

    def start(process):
        begin(process)
        begun.append(process)
        os.kill(os.getpid(), number)
        os.kill(process.pid, number)

    monkeypatch.setattr(torch.multiprocessing.Process, "start", start)
    loader = WorkerLoader(TensorDataset(torch.arange(8)), num_workers=2, worker_init_fn=outlive_signals)
    with pytest.raises(Ended):
        iter(loader)
    assert len(begun) == 2
    assert capfd.readouterr().err == ""


POOL = """
import os, signal, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver, popen_forkserver
from datamodules.preparation import worker_pool

def around(owner, name, when):
    whole = getattr(owner, name)
    def interrupted(*arguments, **options):
        if when == "before": os.killpg(0, signal.{number})
        result = whole(*arguments, **options)
        if when == "after": os.killpg(0, signal.{number})
        return result
    setattr(owner, name, interrupted)

def end(number, frame):
    raise SystemExit(0)

signal.signal(signal.SIGTERM, end)
# For speed: what it imports takes seconds.
forkserver.set_forkserver_preload = lambda names: None
around({moment})
try:
    print(list(worker_pool.run(abs, [-1, 2, 3], 2)))
except KeyboardInterrupt:
    sys.exit(0)
sys.exit(3)
"""
MOMENTS = {
    "before the server": 'forkserver._forkserver, "ensure_running", "before"',
    "as the server begins": 'forkserver._forkserver, "ensure_running", "after"',
    "before a process": 'popen_forkserver.Popen, "_launch", "before"',
    "as a process begins": 'popen_forkserver.Popen, "_launch", "after"',
    "at the end": 'ProcessPoolExecutor, "shutdown", "before"',
}


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    "moment",
    [moment if moment == "as a process begins" else pytest.param(moment, marks=pytest.mark.slow) for moment in MOMENTS],
)
def test_a_signal_to_all_processes_of_a_pool_leaves_no_traceback(moment, number):
    program = textwrap.dedent(POOL).format(moment=MOMENTS[moment], number=number)
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, start_new_session=True, timeout=120
    )
    assert (ended.returncode, ended.stderr) == (0, "")
