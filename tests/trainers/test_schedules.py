"""Schedules against their closed formulas, at their corners, resumed, and in a configuration file."""

import math
import re
from collections.abc import Callable

import pytest
import torch
from jsonargparse import auto_cli
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from trainers.schedules import CosineRestart, WarmupCosine, follow_run


def optimiser(*rates):
    return torch.optim.AdamW([{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in rates])


def run(schedule, steps):
    """The rates of `steps` steps, those of all groups at each."""
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in schedule.optimizer.param_groups])
        schedule.optimizer.step()
        schedule.step()
    return rates


def cosine(base, minimum, fraction):
    return minimum + 0.5 * (base - minimum) * (1 + math.cos(math.pi * fraction))


def test_cosine_restart_follows_its_formula():
    rates = run(CosineRestart(optimiser(1.0, 0.5), periods=[4, 6], minima=[0.2, 0.1]), 14)
    for group, base in enumerate([1.0, 0.5]):
        # Each period ends with its minimum, at steps 4 and 10; the last minimum is kept.
        first = [cosine(base, 0.2, step / 4) for step in range(5)]
        second = [cosine(base, 0.1, step / 6) for step in range(1, 7)]
        assert [rate[group] for rate in rates] == pytest.approx([*first, *second, 0.1, 0.1, 0.1], rel=1e-12)


def test_cosine_restart_is_restormers_schedule():
    schedule = CosineRestart(optimiser(3e-4), periods=[92000, 208000], minima=[3e-4, 1e-6])
    # (step, rate): constant up to the first restart, then one cosine, half-way in its middle.
    for step, rate in [
        (0, 3e-4),
        (46000, 3e-4),
        (92000, 3e-4),
        (144000, cosine(3e-4, 1e-6, 0.25)),
        (196000, (3e-4 + 1e-6) / 2),
        (300000, 1e-6),
        (300001, 1e-6),
    ]:
        schedule.last_epoch = step
        assert schedule.get_lr() == pytest.approx([rate], rel=1e-12)


def test_one_period_of_cosine_restart_is_torchs_cosine():
    ours = run(CosineRestart(optimiser(4e-4), periods=[50], minima=[1e-6]), 51)
    torchs = run(torch.optim.lr_scheduler.CosineAnnealingLR(optimiser(4e-4), T_max=50, eta_min=1e-6), 51)
    assert ours == [pytest.approx(rates, rel=1e-9) for rates in torchs]


def test_warmup_cosine_follows_its_formula():
    rates = run(WarmupCosine(optimiser(1.0, 0.5), warmup=3, total=10, minimum=0.1), 13)
    for group, base in enumerate([1.0, 0.5]):
        rise = [base / 3, 2 * base / 3, base]
        fall = [cosine(base, 0.1, step / 7) for step in range(8)]
        assert [rate[group] for rate in rates] == pytest.approx([*rise, *fall, 0.1, 0.1], rel=1e-12)


def test_warmup_cosine_without_warmup_is_torchs_cosine():
    ours = run(WarmupCosine(optimiser(2e-4), warmup=0, total=50, minimum=1e-6), 51)
    torchs = run(torch.optim.lr_scheduler.CosineAnnealingLR(optimiser(2e-4), T_max=50, eta_min=1e-6), 51)
    assert ours == [pytest.approx(rates, rel=1e-9) for rates in torchs]


@pytest.mark.parametrize("stop", [1, 4, 5, 9])
@pytest.mark.parametrize(
    "make",
    [lambda opt: CosineRestart(opt, [4, 6], [0.2, 0.1]), lambda opt: WarmupCosine(opt, 3, 10, 0.1)],
    ids=["restart", "warmup"],
)
def test_resumes_to_the_last_bit(make, stop):
    whole = run(make(optimiser(1.0, 0.5)), 12)
    before = make(optimiser(1.0, 0.5))
    run(before, stop)
    after = make(optimiser(1.0, 0.5))
    after.optimizer.load_state_dict(before.optimizer.state_dict())
    after.load_state_dict(before.state_dict())
    assert after.get_last_lr() == before.get_last_lr()
    assert run(after, 12 - stop) == whole[stop:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"periods": [], "minima": []}, r"periods \(\[\]\) must be as many as minima, and at least one"),
        ({"periods": [4, 6], "minima": [0.1]}, r"periods \(\[4, 6\]\) must be as many as minima"),
        ({"periods": [4, 0], "minima": [0.1, 0.1]}, r"periods \(\[4, 0\]\) must be at least 1"),
        ({"periods": [4], "minima": [-0.1]}, r"minima \(\[-0.1\]\) must be 0 or more"),
    ],
)
def test_cosine_restart_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        CosineRestart(optimiser(1.0), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"warmup": -1, "total": 10}, r"warmup \(-1\) must be 0 or more and less than total, got total 10"),
        ({"warmup": 10, "total": 10}, r"warmup \(10\) must be 0 or more and less than total, got total 10"),
        ({"warmup": 3, "total": 10, "minimum": -1e-6}, r"minimum \(-1e-06\) must be 0 or more"),
    ],
)
def test_warmup_cosine_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        WarmupCosine(optimiser(1.0), **arguments)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (CosineRestart, "{periods: [92000, 208000], minima: [3.0e-4, 1.0e-6]}"),
        (WarmupCosine, "{warmup: 3, total: 250, minimum: 1.0e-6}"),
    ],
)
def test_is_written_in_a_configuration_file(tmp_path, kind, arguments):
    def task(schedule: Callable[[Optimizer], LRScheduler]):
        return schedule

    (tmp_path / "config.yaml").write_text(
        f"schedule:\n  class_path: trainers.schedules.{kind.__name__}\n  init_args: {arguments}\n"
    )
    make = auto_cli(task, args=["--config", str(tmp_path / "config.yaml")])
    assert isinstance(make(optimiser(3e-4)), kind)


@pytest.mark.parametrize(
    ("following", "fixed"),
    [
        (lambda opt: WarmupCosine(opt, 3, None, 0.1), lambda opt: WarmupCosine(opt, 3, 10, 0.1)),
        (lambda opt: CosineRestart(opt, [4, None], [0.2, 0.1]), lambda opt: CosineRestart(opt, [4, 6], [0.2, 0.1])),
    ],
    ids=["warmup", "restart"],
)
def test_without_a_length_ends_with_the_run(following, fixed):
    schedule = following(optimiser(1.0, 0.5))
    assert follow_run(schedule, 10) is None
    assert run(schedule, 12) == run(fixed(optimiser(1.0, 0.5)), 12)


def test_a_resumed_run_of_another_length_is_followed():
    before = WarmupCosine(optimiser(1.0))
    follow_run(before, 10)
    run(before, 5)
    after = WarmupCosine(optimiser(1.0))
    follow_run(after, 20)
    after.load_state_dict(before.state_dict())
    after.step()
    assert after.get_last_lr() == [pytest.approx(cosine(1.0, 0.0, 6 / 20))]


@pytest.mark.parametrize("steps", [3, math.inf])
def test_a_run_without_an_end_or_with_one_too_early_is_refused(steps):
    with pytest.raises(ValueError, match=rf"max_steps \({steps}\) must be finite and above the 3 steps"):
        follow_run(WarmupCosine(optimiser(1.0), warmup=3), steps)


def test_a_length_is_needed_where_there_is_no_run():
    schedule = WarmupCosine(optimiser(1.0))
    schedule.optimizer.step()
    with pytest.raises(ValueError, match=r"length of WarmupCosine \(null\) must be given where no task trains"):
        schedule.step()


def test_only_the_last_period_may_be_without_a_length():
    with pytest.raises(ValueError, match=r"periods \(\[None, 4\]\) must be numbers of steps, got null before the last"):
        CosineRestart(optimiser(1.0), [None, 4], [0.1, 0.1])


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (lambda opt: WarmupCosine(opt, 3, 10), r"total of WarmupCosine \(10\)"),
        (lambda opt: CosineRestart(opt, [4, 6], [0.2, 0.1]), r"sum of periods of CosineRestart \(10\)"),
        (lambda opt: CosineAnnealingLR(opt, 10), r"T_max of CosineAnnealingLR \(10\)"),
    ],
    ids=["warmup", "restart", "torch"],
)
def test_a_length_that_is_not_the_run_s_is_reported(make, shown):
    assert re.match(rf"{shown} is not the run's steps \(60\)", str(follow_run(make(optimiser(1.0)), 60)))
    assert follow_run(make(optimiser(1.0)), 10) is None
    assert follow_run(make(optimiser(1.0)), math.inf) is None


def test_schedules_without_an_end_are_left_alone():
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser(1.0), milestones=[5])
    state = schedule.state_dict()
    assert follow_run(schedule, 60) is None
    assert schedule.state_dict() == state


@pytest.mark.slow
@pytest.mark.parametrize("limit", [["--trainer.max_steps", 4], ["--trainer.max_steps", -1, "--trainer.max_epochs", 2]])
def test_a_recipe_s_schedule_follows_its_run(lowrank, recipe, tmp_path, limit):
    schedule = ["--model.scheduler", "trainers.schedules.WarmupCosine", "--model.scheduler.minimum", 1e-4]
    assert lowrank("fit", "--config", recipe, *limit, *schedule) == 0
    accumulator = EventAccumulator(str(next(tmp_path.rglob("events.*"))))
    accumulator.Reload()
    rates = [event.value for event in accumulator.Scalars("train/learning_rate")]
    assert rates == [pytest.approx(cosine(1e-3, 1e-4, step / 4)) for step in range(4)]


def test_a_recipe_whose_schedule_has_another_length_is_told_so_once(lowrank, recipe, caplog):
    assert lowrank("fit", "--config", recipe, "--trainer.max_steps", 3) == 0
    messages = [record.message for record in caplog.records if "T_max" in record.message]
    assert len(messages) == 1
    assert messages[0].startswith("T_max of CosineAnnealingLR (4) is not the run's steps (3)")
