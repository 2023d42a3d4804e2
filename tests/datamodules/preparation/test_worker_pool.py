"""Work shared out among processes."""

import pytest

from datamodules.preparation.worker_pool import run


def test_processes_are_at_least_none():
    assert list(run(abs, [-1, 2], 0)) == [1, 2]
    with pytest.raises(ValueError, match=r"workers \(-1\) must be at least 0"):
        next(run(abs, [1], -1))
