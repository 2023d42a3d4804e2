"""What is told of memory, disks and processes that end: one message with a remedy, and no traceback."""

import errno
import os
import signal

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from trainers.errors import explain


def error_of(call) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011  # whatever torch and NumPy raise
        call()
    return caught.value


@pytest.mark.parametrize(
    "call",
    [
        lambda: torch.empty(2**60, dtype=torch.uint8),
        lambda: np.ones((2**30, 2**20)),
        lambda: next(iter(DataLoader(Greedy(), num_workers=1))),
    ],
)
def test_memory_that_runs_out_has_a_remedy(call):
    message = explain(error_of(call))
    assert message.startswith("memory must hold the network and its batch, got: ")
    assert "Lower --max_batch_per_device" in message
    assert "\n" not in message


class Greedy(Dataset):
    """Asks for more memory than there is."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return torch.empty(2**60, dtype=torch.uint8)


class Killed(Greedy):
    """Ends its own process, as a system does that has no memory left."""

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_loaders_process_that_is_killed_has_a_remedy():
    message = explain(error_of(lambda: next(iter(DataLoader(Killed(), num_workers=1)))))
    assert message.startswith("a process that loads data has ended (DataLoader worker (pid")
    assert "lower --data.num_workers" in message


def test_a_full_disk_under_torch_has_a_remedy(tmp_path):
    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self):
            pass

    message = explain(error_of(lambda: torch.save({"weights": torch.ones(9)}, Full())))
    assert message is not None
    assert "free space" in message


def test_files_without_a_name_are_not_called_none():
    assert "None" not in explain(OSError(errno.ENOSPC, "No space left on device"))
    assert explain(FileNotFoundError(errno.ENOENT, "No such file", "a.png")).startswith("file (a.png) must be usable")


def test_other_runtime_errors_are_bugs():
    assert explain(RuntimeError("a bug")) is None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nn.Conv2d(3, -8, 3), "a size of the net (-8) must be at least 1"),
        (lambda: nn.Linear(-8, 3), "a size of the net (-8) must be at least 1"),
        (lambda: schedule(T_max=0), "a length of the schedule (0) must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_named(call, words):
    assert explain(error_of(call)).startswith(words)


def schedule(**options):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, **options)
    optimizer.step()
    scheduler.step()


def test_other_divisions_by_zero_are_bugs():
    assert explain(error_of(lambda: 1 // 0)) is None
