"""Inputs made as they are read: what patches depend on, joined sets, JPEG in memory."""

import numpy as np
import pytest

from datamodules.base.benchmark import join
from datamodules.base.published import find_folder
from datamodules.degradations.base import Chain
from datamodules.degradations.blur import MotionBlur
from datamodules.degradations.downsampling import BicubicDownsampling
from datamodules.degradations.jpeg import JPEGCompression
from datamodules.degradations.noise import GaussianNoise
from datamodules.files.images import convert_channels, has_images, jpeg, write_image
from datamodules.pairs.degraded import CleanImages, DegradedImageDataset
from datamodules.pairs.matching import Pairs


@pytest.mark.parametrize(
    "degradation",
    [
        BicubicDownsampling(3),
        BicubicDownsampling(2, eight_bit=True),
        MotionBlur(length=(9, 9), angle=(30, 30)),
        Chain((MotionBlur(length=(5, 5), angle=(0, 0)), BicubicDownsampling(2))),
    ],
    ids=repr,
)
def test_beyond_its_reach_a_crop_is_degraded_as_the_whole(degradation, rng):
    scale, reach = degradation.scale, degradation.reach
    whole = rng.random((48, 48, 3), np.float32)
    degraded = degradation.apply(whole, np.random.default_rng(0))
    part = degradation.apply(whole[12:42, 12:42].copy(), np.random.default_rng(0))
    inside = slice(reach, 30 // scale - reach)
    shifted = slice(12 // scale + reach, 42 // scale - reach)
    np.testing.assert_allclose(part[inside, inside], degraded[shifted, shifted], rtol=0, atol=1e-6)
    assert np.abs(part - degraded[12 // scale : 42 // scale, 12 // scale : 42 // scale]).max() > 1e-3


def test_small_images_are_extended(tmp_path, rng):
    write_image(tmp_path / "1.png", rng.integers(0, 256, (6, 8, 3), np.uint8))
    dataset = DegradedImageDataset(CleanImages.of([tmp_path / "1.png"], BicubicDownsampling(2)), 12)
    assert dataset[0]["input"].shape == (3, 12, 12)
    assert dataset[0]["target"].shape == (3, 24, 24)
    with pytest.raises(IndexError, match=r"index \(1\) must be in \[0, 1\)"):
        dataset[1]


def test_joined_sets_have_unique_names(tmp_path):
    made = CleanImages.of([tmp_path / "1.png"], GaussianNoise())
    both = join({"a": made, "b": made}, "train_sets")
    assert isinstance(both, CleanImages)
    assert both.names == ("a-1", "b-1")
    assert both.degradation is made.degradation
    plain = Pairs((tmp_path / "1.png",), (tmp_path / "2.png",), ("1",))
    assert join({"a": plain}, "train_sets") is plain
    assert join({"a": plain, "b": plain}, "train_sets").targets == (tmp_path / "2.png",) * 2


def test_noise_may_go_beyond_black_and_white(rng):
    image = np.ones((8, 8, 3), np.float32)
    assert GaussianNoise((25, 25), clip=False).apply(image, rng).max() > 1
    assert GaussianNoise((25, 25)).apply(image, rng).max() == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_loses_more_at_a_lower_quality(channels, rng):
    image = rng.random((16, 24, channels), np.float32)
    errors = [np.abs(JPEGCompression((q, q)).apply(image, rng) - image).mean() for q in (95, 40, 10)]
    assert errors == sorted(errors)
    assert errors[0] > 0


def test_images_that_cannot_be_jpeg_are_refused():
    with pytest.raises(ValueError, match=r"quality \(0\) must lie in \[1, 100\]"):
        jpeg(np.zeros((8, 8, 3), np.uint8), 0)
    with pytest.raises(ValueError, match="must be uint8"):
        jpeg(np.zeros((8, 8, 4), np.uint8), 50)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_studio_luma_has_footroom_and_headroom(dtype):
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = np.array([[[0, 0, 0], [white, white, white]]], dtype)
    luma = convert_channels(image, 1, studio=True)
    assert luma.dtype == dtype
    np.testing.assert_allclose(luma[0, :, 0] / white, [16 / 255, 235 / 255], atol=1e-5)


def test_folders_are_found_in_either_case(tmp_path):
    (tmp_path / "there" / "BSD100").mkdir(parents=True)
    (tmp_path / "b100").symlink_to(tmp_path / "there" / "BSD100")
    (tmp_path / "B200").write_text("a file")
    assert find_folder(tmp_path, "BSDS100", "B100") == tmp_path / "b100"
    assert find_folder(tmp_path, "B200") is None
    assert find_folder(tmp_path / "gone", "B100") is None
    assert not has_images(tmp_path)
    assert not has_images(tmp_path / "gone")
