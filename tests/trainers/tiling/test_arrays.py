"""Images restored from Python: every kind comes back as it came, with the values of the verb."""

import numpy as np
import pytest
import torch

import glmha
import trainers
from datamodules.errors import DataError
from datamodules.files.images import read_image, write_image
from trainers.commands.restore.command import restore_images
from trainers.tiling.restoration import restore


@pytest.fixture
def net():
    torch.manual_seed(0)
    return glmha.Restormer(dim=4, num_blocks=[1] * 4, num_refinement_blocks=1, heads=[1] * 4)


def picture(channels=3, dtype=np.uint8):
    random = np.random.default_rng(0)
    if dtype == np.float32:
        return random.random((21, 30, channels), dtype=np.float32)
    return random.integers(0, np.iinfo(dtype).max, (21, 30, channels), dtype, endpoint=True)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, pytest.param(np.uint16, marks=pytest.mark.slow), np.float32])
def test_arrays_and_files_are_restored_as_by_the_verb(net, tmp_path, channels, dtype):
    torch.save({"state_dict": net.state_dict()}, tmp_path / "net.ckpt")
    path = tmp_path / f"photo.{'tif' if dtype == np.float32 else 'png'}"
    write_image(path, picture(channels, dtype))
    [restored] = restore_images([path], pretrained=tmp_path / "net.ckpt", output=tmp_path / "out", tile=16, overlap=6)
    expected = read_image(restored.target)
    for image in (path, str(path), read_image(path)):
        result = trainers.restore(image, net, tile=16, overlap=6)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(trainers.restore(path, tmp_path / "net.ckpt", tile=16, overlap=6), expected)


def test_tensors_stay_tensors_and_the_mode_of_the_network(net):
    net.train()
    batch = torch.rand(2, 3, 21, 30)
    result = trainers.restore(batch, net, self_ensemble=True)
    assert net.training
    assert result.shape == batch.shape
    torch.testing.assert_close(result, restore(net.eval(), batch, tile=None, overlap=0, self_ensemble=True))
    several = trainers.restore([batch[0], picture()], net)
    assert [type(image) for image in several] == [torch.Tensor, np.ndarray]
    torch.testing.assert_close(several[0], restore(net, batch[0], tile=None, overlap=0))
    assert not net.training


def test_what_cannot_be_restored_is_refused(net, tmp_path):
    with pytest.raises(ValueError, match=r"image array \(shape \(21, 30\)\) must be \(H, W, C\)"):
        trainers.restore(picture()[..., 0], net)
    with pytest.raises(TypeError, match=r"images \(int\) must be arrays, tensors or paths"):
        trainers.restore([3], net)
    with pytest.raises(DataError, match="must be a readable file"):
        trainers.restore(tmp_path / "none.png", net)
    with pytest.raises(ValueError, match="must be a float tensor"):
        trainers.restore(torch.zeros(3, 8, 8, dtype=torch.uint8), net)
    torch.nn.init.constant_(next(net.parameters()), float("nan"))
    with pytest.raises(DataError, match="image array must have a finite result"):
        trainers.restore(picture(), net)
