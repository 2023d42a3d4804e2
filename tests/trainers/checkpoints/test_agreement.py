"""All processes of a run go on from one checkpoint."""

from types import SimpleNamespace

import pytest

from trainers.checkpoints.agreement import SameCheckpoint

STARTS = ("on_train_start", "on_validation_start", "on_test_start", "on_predict_start")


def second_of_two(own: str | None, first: str | None) -> SimpleNamespace:
    strategy = SimpleNamespace(broadcast=lambda _: first, reduce_boolean_decision=lambda agrees, all: agrees)
    return SimpleNamespace(world_size=2, ckpt_path=own, strategy=strategy)


@pytest.mark.parametrize("start", STARTS)
def test_processes_that_found_different_checkpoints_are_refused(start):
    begin = getattr(SameCheckpoint(), start)
    for both in ("a.ckpt", None):
        begin(second_of_two(both, both), None)
    for own, first in (("b.ckpt", "a.ckpt"), (None, "a.ckpt"), ("b.ckpt", None)):
        told = rf"ckpt_path \({own}\) must be the same file in all processes, got {first} in the first"
        with pytest.raises(ValueError, match=told):
            begin(second_of_two(own, first), None)
    begin(SimpleNamespace(world_size=1), None)
