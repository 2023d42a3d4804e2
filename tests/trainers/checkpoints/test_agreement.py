"""All processes of a run go on from one checkpoint."""

from types import SimpleNamespace

import pytest

from trainers.checkpoints.agreement import SameCheckpoint

STARTS = ("on_train_start", "on_validation_start", "on_test_start", "on_predict_start")


def second_of_two(own: str | None, first: str | None) -> SimpleNamespace:
    strategy = SimpleNamespace(broadcast=lambda _: first, reduce_boolean_decision=lambda agrees, all: agrees)
    return SimpleNamespace(world_size=2, ckpt_path=own, strategy=strategy)


def begin(start: str, own: str | None, first: str | None) -> None:
    """Begin in the second process, which has read step 3 of `own`."""
    callback = SameCheckpoint()
    trainer = second_of_two(own, first)
    if own is not None:
        callback.on_load_checkpoint(trainer, None, {"global_step": 3})
    getattr(callback, start)(trainer, None)


@pytest.mark.parametrize("start", STARTS)
def test_processes_that_found_different_checkpoints_are_refused(start):
    begin(start, None, None)
    begin(start, "a.ckpt", "a.ckpt, step 3")
    for own, first in (("b.ckpt", "a.ckpt, step 3"), (None, "a.ckpt, step 3"), ("b.ckpt", None)):
        told = rf"ckpt_path \({own}.*\) must be the same checkpoint in all processes, got {first} in the first"
        with pytest.raises(ValueError, match=told):
            begin(start, own, first)
    getattr(SameCheckpoint(), start)(SimpleNamespace(world_size=1), None)


@pytest.mark.parametrize("start", STARTS)
def test_a_file_that_was_replaced_in_between_is_another_checkpoint(start):
    told = r"ckpt_path \(a.ckpt, step 3\) must be the same checkpoint in all processes, got a.ckpt, step 4"
    with pytest.raises(ValueError, match=told):
        begin(start, "a.ckpt", "a.ckpt, step 4")
