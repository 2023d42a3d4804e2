"""The demonstration's photographs: split by photograph, reproducible, degraded as described."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datamodules import DemoDataModule
from datamodules.degradations.downsampling import BicubicDownsampling
from datamodules.degradations.noise import GaussianNoise
from datamodules.demo import restoration as demo
from datamodules.demo.photographs import photograph
from datamodules.files.images import to_array


def make(stage="fit", **kwargs):
    data = DemoDataModule(**{"patch_size": 24, "batch_size": 4, "epoch_length": 8, **kwargs})
    data.setup(stage)
    return data


def epoch(data, number=0):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    return list(loader)


def held_out(data):
    return [batch for loader in data.val_dataloader() + data.test_dataloader() for batch in loader]


def psnr(batch):
    return -10 * torch.log10((batch["input"] - batch["target"]).square().mean()).item()


def test_no_photograph_is_in_two_splits():
    names = [*demo.TRAIN, *demo.VAL, *demo.TEST]
    assert len(set(names)) == len(names) == 6
    training = {name for number in range(10) for batch in epoch(make(), number) for name in batch["name"]}
    assert {name.partition("-")[0] for name in training} == set(demo.TRAIN)
    data = make()
    data.setup("test")
    assert data.val_set_names == ["demo-val"]
    assert data.test_set_names == ["demo-test"]
    assert [batch["name"] for batch in data.val_dataloader()[0]] == [["hopper-1"], ["hopper-2"]]
    tested = [batch["name"][0] for batch in data.test_dataloader()[0]]
    assert tested == ["chelsea-1", "chelsea-2", "coffee-1", "coffee-2"]


def test_patches_are_cut_from_the_photographs():
    for batch in epoch(make(augment=False, patch_size=8)):
        for name, target in zip(batch["name"], batch["target"], strict=True):
            windows = np.lib.stride_tricks.sliding_window_view(photograph(name.partition("-")[0]), (8, 8), axis=(0, 1))
            patch = to_array(target).transpose(2, 0, 1)
            starts = np.argwhere((windows[..., 0, 0] == patch[:, 0, 0]).all(axis=2))
            assert any((windows[row, column] == patch).all() for row, column in starts)


def test_batches_are_floats_in_range():
    for batch in epoch(make()):
        assert batch["input"].shape == batch["target"].shape == (4, 3, 24, 24)
        for key in ("input", "target"):
            assert batch[key].dtype == torch.float32
            assert batch[key].min() >= 0
            assert batch[key].max() <= 1
        assert not torch.equal(batch["input"], batch["target"])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_stream_depends_on_its_seed_and_number_alone(num_workers):
    first = epoch(make(num_workers=0), 3)
    torch.manual_seed(123)
    again = epoch(make(num_workers=num_workers), 3)
    for one, two in zip(first, again, strict=True):
        assert one["name"] == two["name"]
        assert torch.equal(one["input"], two["input"])
        assert torch.equal(one["target"], two["target"])


def test_epochs_and_seeds_differ():
    drawn = [epoch(make(), 0), epoch(make(), 1), epoch(make(seed=1), 0)]
    inputs = torch.cat([batch["input"] for batches in drawn for batch in batches])
    assert len(torch.unique(inputs, dim=0)) == 24


def test_devices_share_an_epoch():
    data = make(batch_size=2)
    whole = {name for batch in epoch(data, 2) for name in batch["name"]}
    parts = []
    for rank in range(2):
        data.trainer = SimpleNamespace(world_size=2, global_rank=rank, accumulate_grad_batches=1)
        parts += [name for batch in epoch(data, 2) for name in batch["name"]]
    assert len(parts) == 8
    assert set(parts) == whole


def test_training_obeys_changed_sizes():
    data = make()
    data.patch_size, data.batch_size = 16, 2
    assert [batch["input"].shape for batch in epoch(data)] == [(2, 3, 16, 16)] * 4


def test_held_out_images_are_moderate_and_always_the_same():
    data = make()
    data.setup("test")
    batches = held_out(data)
    assert len(batches) == 6
    for one, two in zip(batches, held_out(data), strict=True):
        assert torch.equal(one["input"], two["input"])
        height, width = one["input"].shape[2:]
        assert height % 8 == width % 8 == 0
        assert max(height, width) <= 320
    other = make("test", seed=1).test_dataloader()[0]
    assert not torch.equal(next(iter(other))["input"], batches[2]["input"])


def test_halves_do_not_overlap():
    image = np.arange(7 * 4 * 3).reshape(7, 4, 3)
    np.testing.assert_array_equal(np.concatenate(demo._halves(image)), image)
    np.testing.assert_array_equal(np.concatenate(demo._halves(image.transpose(1, 0, 2)), axis=1), image.swapaxes(0, 1))


def test_rain_is_a_real_task():
    data = make()
    data.setup("test")
    assert all(19.5 < psnr(batch) < 27 for batch in held_out(data))


def test_degradation_may_change_the_size():
    data = make(degradation=BicubicDownsampling(2), eval_size=100)
    assert epoch(data)[0]["input"].shape == (4, 3, 24, 24)
    assert epoch(data)[0]["target"].shape == (4, 3, 48, 48)
    batch = next(iter(data.val_dataloader()[0]))
    assert batch["input"].shape == (1, 3, 48, 48)
    assert batch["target"].shape == (1, 3, 96, 96)


def test_given_degradation_is_applied():
    data = make(degradation=GaussianNoise((25, 25)))
    assert psnr(next(iter(data.val_dataloader()[0]))) == pytest.approx(20.17, abs=0.8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, r"seed \(-1\) must be at least 0"),
        ({"epoch_length": 3}, r"epoch_length \(3\) must be at least batch_size \(4\)"),
        ({"eval_size": 7}, r"eval_size \(7\) must be at least 8"),
        ({"eval_size": 31, "degradation": BicubicDownsampling(4)}, "at least 32"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
