"""Patches and batches that change at given steps of a run."""

from types import SimpleNamespace

import pytest
import torch

from datamodules import Stage
from datamodules.loading.stages import StagedBatches
from tests.datamodules.base.test_base import NAMES, fit, make, quiet
from tests.datamodules.conftest import write_pairs
from trainers import RestorationTask

STAGES = [Stage(3, 12, 1), Stage(5, 16, 3)]


def sides(steps: int, batches_per_step: int = 1) -> list[tuple[int, int]]:
    """Batch size and side of the patches of every batch of a run with STAGES after patches of 8 in twos."""
    # A step's two, one and three samples, or what comes nearest in two batches.
    first, second, third = {1: (2, 1, 3), 2: (1, 1, 1)}[batches_per_step]
    of_step = [(first, 8)] * 3 + [(second, 12)] * 2 + [(third, 16)] * max(0, steps - 5)
    return [size for size in of_step[:steps] for _ in range(batches_per_step)]


@pytest.fixture
def folder(tmp_path):
    return write_pairs(tmp_path / "Toy", NAMES)


@quiet
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accumulate_grad_batches": 2},
        # Epochs that end within a stage, and others of a length of their own.
        {"limit_train_batches": 2},
        {"val_check_interval": 1, "limit_val_batches": 1},
    ],
)
def test_a_stage_begins_at_its_step(folder, num_workers, options):
    data = make(folder, repeat=2, num_workers=num_workers, stages=STAGES)
    seen, trainer = fit(data, 1, max_steps=8, **options)
    assert trainer.global_step == 8
    found = [(batch.shape[0], batch.shape[2]) for batch in seen]
    assert found == sides(8, options.get("accumulate_grad_batches", 1))


@quiet
def test_a_step_cut_short_by_the_end_of_an_epoch_counts_as_one(folder):
    data = make(folder, repeat=2, stages=STAGES)
    seen, _ = fit(data, 1, max_steps=8, accumulate_grad_batches=2, limit_train_batches=3)
    # Steps have 2, 1, 2, 1, … batches: the fourth is a single one, the sixth as well.
    assert [batch.shape[2] for batch in seen] == [8, 8, 8, 8, 8, 12, 12, 12, 16, 16, 16, 16]


@quiet
@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_a_resumed_run_sees_what_the_straight_one_does(folder, tmp_path, num_workers, accumulate, stop):
    def data():
        return make(folder, num_workers=num_workers, repeat=2, stages=STAGES)

    straight, _ = fit(data(), 1, max_steps=9, accumulate_grad_batches=accumulate)
    first, trainer = fit(data(), 1, max_steps=stop, accumulate_grad_batches=accumulate)
    trainer.save_checkpoint(tmp_path / "stopped.ckpt")
    second, _ = fit(data(), 1, tmp_path / "stopped.ckpt", max_steps=9, accumulate_grad_batches=accumulate)
    torch.testing.assert_close(first + second, straight, rtol=0, atol=0)


@pytest.mark.parametrize("devices", [1, 2])
def test_every_pass_takes_every_image_whatever_the_batches(folder, devices):
    stages = [Stage(2, 12, devices), Stage(5, 16, 3 * devices)]
    data = make(folder, batch_size=2 * devices, stages=stages)
    data.setup("fit")
    names: list[list[str]] = []
    for rank in range(devices):
        strategy = SimpleNamespace(broadcast=lambda seed: 5)
        data.trainer = SimpleNamespace(
            world_size=devices,
            global_rank=rank,
            strategy=strategy,
            global_step=0,
            accumulate_grad_batches=1,
            overfit_batches=0,
        )
        loader = data.train_dataloader()
        assert isinstance(loader.sampler, StagedBatches)
        assert {stage.batch_size for stage in loader.sampler.stages} == {1, 2, 3}
        loader.sampler.num_samples = 20
        names.append([name for batch in loader for name in batch["name"]])
    # Devices take turns.
    order = [name for turn in zip(*names, strict=True) for name in turn]
    passes = [order[start : start + 5] for start in range(0, len(order) - 4, 5)]
    assert len(passes) >= 10
    assert all(sorted(part) == NAMES for part in passes)
    assert len({tuple(part) for part in passes}) > 1


def test_a_loop_without_a_trainer_counts_epochs(folder):
    data = make(folder, repeat=2, stages=STAGES)
    data.setup("fit")
    loader = data.train_dataloader()
    # Ten images are five batches of two.
    assert len(loader) == 5
    found = [(len(batch["name"]), batch["input"].shape[2]) for _ in range(2) for batch in loader]
    assert found == sides(10)


def test_a_batch_reads_no_more_images_than_it_has_patches(folder, monkeypatch):
    read = []
    monkeypatch.setattr(
        "datamodules.pairs.dataset.read_image", lambda path: read.append(path) or torch.zeros(24, 32, 3).byte().numpy()
    )
    data = make(folder, repeat=2, stages=STAGES)
    data.setup("fit")
    assert [len(batch["name"]) for batch in data.train_dataloader()] == [2, 2, 2, 1, 1]
    assert len(read) == 2 * (2 + 2 + 2 + 1 + 1)


@pytest.mark.parametrize("starts", [[0], [5, 5], [5, 3]])
def test_stages_out_of_order_are_refused(folder, starts):
    with pytest.raises(ValueError, match="stages must begin after step 0, each later than the one before, got starts"):
        make(folder, stages=[Stage(start, 8, 1) for start in starts])


@pytest.mark.parametrize(
    ("values", "message"), [((-1, 8, 1), r"start \(-1\)"), ((1, 0, 1), r"patch_size \(0\)"), ((1, 8, 0), "batch_size")]
)
def test_stages_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=f"{message}.* must be at least"):
        Stage(*values)


@quiet
@pytest.mark.filterwarnings("ignore:You requested to overfit but enabled")
def test_overfitting_with_stages_is_refused(folder):
    with pytest.raises(ValueError, match="overfit_batches must be 0 where the data have stages"):
        fit(make(folder, repeat=2, stages=STAGES), 1, max_steps=2, overfit_batches=2, limit_val_batches=0)


def test_a_stage_that_the_network_cannot_take_is_refused(folder):
    net = torch.nn.Conv2d(3, 3, 3, padding=1)
    net.size_multiple = 8
    task = RestorationTask(net)
    task.check_patches(make(folder, stages=[Stage(3, 16, 1)]))
    with pytest.raises(ValueError, match=r"patch_size \(12\) must be a multiple of 8 .* --data.stages one of 8 or 16"):
        task.check_patches(make(folder, stages=STAGES))
