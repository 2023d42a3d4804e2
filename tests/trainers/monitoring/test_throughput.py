"""Speed, data wait and memory, against a clock that the test sets."""

import mmap
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainers.monitoring import throughput
from trainers.monitoring.throughput import Throughput, memory


class Run:
    """Calls the measurement as Lightning does, at given times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.now = 0.0
        monkeypatch.setattr(throughput.time, "perf_counter", lambda: self.now)
        self.measured = Throughput()
        self.trainer: Any = SimpleNamespace(
            **{"world_size": 1, "accumulate_grad_batches": 1, "global_step": 0, "log_every_n_steps": 10**6},
        )
        vars(self.trainer).update(options)
        self.module: Any = SimpleNamespace(device=torch.device("cpu"))
        self.batches = 0

    def step(self, wait: float, seconds: float, loss: float = 1.0, samples: int = 4) -> None:
        self.now += wait
        batch = {"name": ["x"] * samples}
        self.measured.on_train_batch_start(self.trainer, self.module, batch, self.batches)
        self.now += seconds
        self.trainer.global_step += 1
        outputs = {"loss": torch.tensor(loss)}
        self.measured.on_train_batch_end(self.trainer, self.module, outputs, batch, self.batches)
        self.batches += 1


def test_rate_and_wait_are_those_of_the_steps(monkeypatch):
    run = Run(monkeypatch, world_size=2)
    run.measured.on_train_epoch_start(run.trainer, run.module)
    for _ in range(10):
        run.step(wait=0.1, seconds=0.3)
    assert run.measured.samples_per_second == pytest.approx(8 / 0.4)
    assert run.measured.data_wait == pytest.approx(0.25)
    assert (run.measured.samples, run.measured.seconds, run.measured.waited) == pytest.approx((80, 4, 1))


def test_the_last_batches_count_most(monkeypatch):
    run = Run(monkeypatch)
    for loss in [8.0] * 100 + [2.0] * 300:
        run.step(wait=0.0, seconds=1.0 if loss == 8 else 0.5, loss=loss)
    assert run.measured.samples_per_second == pytest.approx(8, rel=0.01)
    assert run.measured.loss == pytest.approx(2, rel=0.01)
    assert run.measured.seconds == pytest.approx(250)


def test_validation_and_checkpoints_are_no_wait_for_data(monkeypatch):
    run = Run(monkeypatch)
    run.step(wait=0.0, seconds=1.0)
    run.measured.on_validation_start(run.trainer, run.module)
    run.step(wait=50.0, seconds=1.0)
    run.measured.on_save_checkpoint(run.trainer, run.module, {})
    run.step(wait=50.0, seconds=1.0)
    assert (run.measured.seconds, run.measured.waited) == (3, 0)


def test_the_loss_of_an_accumulated_step_is_whole(monkeypatch):
    run = Run(monkeypatch, accumulate_grad_batches=4)
    run.step(0.0, 1.0, loss=0.5)
    assert run.measured.loss == 2


def test_before_the_first_step_nothing_is_known():
    measured = Throughput()
    assert str([measured.samples_per_second, measured.data_wait, measured.loss]) == "[nan, nan, nan]"


def test_memory_is_the_process_s():
    before = memory(torch.device("cpu"))
    # Of the system itself: the allocator may still have pages of freed tensors.
    with mmap.mmap(-1, 2**26) as held:
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        assert memory(torch.device("cpu")) - before > 0.9 * len(held)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_memory_of_a_gpu_is_its_tensors():
    device = torch.device("cuda")
    held = torch.ones(2**20, device=device)
    assert held.nbytes <= memory(device) < 2**40
