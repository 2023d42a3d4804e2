"""Computations of one thread are timed by what the processor gave them."""

import time

import pytest
import torch

from glmha.shared import clock


@pytest.mark.parametrize(("threads", "read", "named"), [(1, "process_time", "processor"), (2, "perf_counter", "wall")])
def test_the_clock_is_that_of_the_processor_where_one_thread_computes(monkeypatch, threads, read, named):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for each in ("process_time", "perf_counter"):
        monkeypatch.setattr(time, each, lambda each=each: float(each == read))
    assert clock.seconds() == 1
    assert named in clock.name()
