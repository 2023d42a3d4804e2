"""Samples of clips: all frames are cut, turned and degraded alike."""

import numpy as np
import pytest
import torch

from datamodules.clips import ClipDataset, pair_clips
from datamodules.degradations import BicubicDownsampling, BlurDownsampling, Chain, ClipNoise, GaussianNoise
from datamodules.errors import DataError
from datamodules.pairs.degraded import CleanImages
from tests.datamodules.clips.making import frames, write_clips, write_frames


def test_crops_and_turns_are_the_same_in_all_frames_and_in_the_target(tmp_path):
    write_clips(tmp_path, ["a"], size=(24, 32), scale=2)
    dataset = ClipDataset(
        pair_clips(tmp_path / "input", tmp_path / "target"), patch_size=8, num_frames=4, scale=2, repeat=12
    )
    assert len(dataset) == 12
    places, starts = set(), set()
    for index in range(12):
        sample = dataset[index]
        image, target = (255 * sample[key].round(decimals=6) for key in ("input", "target"))
        assert image.shape == (4, 3, 8, 8)
        assert target.shape == (4, 3, 16, 16)
        # Red and green tell the place, blue the frame.
        assert (image[:, :2] == image[:1, :2]).all()
        torch.testing.assert_close(target[:, :, ::2, ::2], image)
        numbers = image[:, 2, 0, 0] / 10
        assert numbers.diff().round().tolist() == [1, 1, 1]
        places.add(tuple(image[0, :2, 0, 0].round().tolist()))
        starts.add(int(numbers[0].round()))
    assert len(places) > 4
    assert len(starts) == 3


def test_half_of_the_samples_are_played_backwards(tmp_path):
    write_clips(tmp_path, ["a"])
    pairs = pair_clips(tmp_path / "input", tmp_path / "target")
    dataset = ClipDataset(pairs, patch_size=8, num_frames=4, reverse=True, repeat=16)
    ways = []
    for index in range(16):
        image = dataset[index]["input"][:, 2, 0, 0]
        assert image.diff().sign().unique().numel() == 1
        ways.append(float(image.diff().sign()[0]))
    assert set(ways) == {-1.0, 1.0}
    torch.manual_seed(0)
    sample = dataset[3]
    torch.testing.assert_close(sample["input"], sample["target"])
    whole = ClipDataset(pairs, reverse=True)[0]["input"][:, 2, 0, 0]
    assert whole.diff().sign().tolist() == [1.0] * 5


def test_whole_clips_are_evaluated_at_any_length(tmp_path):
    write_frames(tmp_path / "input/odd", frames(5))
    write_frames(tmp_path / "target/odd", frames(5))
    sample = ClipDataset(pair_clips(tmp_path / "input", tmp_path / "target"))[0]
    assert sample["input"].shape == (5, 3, 24, 32)
    assert sample["name"] == "odd"


@pytest.mark.parametrize(
    "degradation",
    [
        BicubicDownsampling(4),
        BlurDownsampling(4),
        BlurDownsampling(2, sigma=0.8),
        Chain((BlurDownsampling(2), BicubicDownsampling(2))),
    ],
)
def test_a_degraded_patch_is_that_part_of_the_degraded_clip(tmp_path, degradation):
    clean = np.random.default_rng(0).integers(0, 256, (2, 80, 96, 3), np.uint8)
    folder = write_frames(tmp_path / "clip", clean)
    clips = CleanImages((folder,), (folder,), ("clip",), degradation)
    patch = ClipDataset(clips, patch_size=4, num_frames=2, augment=False)[0]
    side, scale = 4 * degradation.scale, degradation.scale
    assert patch["target"].shape == (2, 3, side, side)
    wanted = (255 * patch["target"]).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    views = np.lib.stride_tricks.sliding_window_view(clean[0, ..., 0], (side, side))
    [[top, left]] = np.argwhere((views == wanted[0, ..., 0]).all((2, 3)))
    shifted = clean[:, top % scale :, left % scale :]
    height, width = (length // scale * scale for length in shifted.shape[1:3])
    whole = degradation.apply_to_clip(shifted[:, :height, :width].astype(np.float32) / 255, np.random.default_rng(0))
    part = whole[:, top // scale : top // scale + 4, left // scale : left // scale + 4]
    np.testing.assert_allclose(patch["input"].permute(0, 2, 3, 1), part, atol=2e-6)


def test_noise_has_one_strength_in_a_clip_and_tells_it():
    clip = np.full((4, 40, 40, 3), 0.5, np.float32)
    noisy = ClipNoise((5, 50)).apply_to_clip(clip, np.random.default_rng(1))
    level = noisy[..., 3]
    assert (level == level.flat[0]).all()
    strengths = (noisy[..., :3] - clip).std((1, 2, 3))
    np.testing.assert_allclose(strengths, level.flat[0], rtol=0.05)
    assert not np.array_equal(noisy[0, ..., :3], noisy[1, ..., :3])


def test_the_noise_of_the_benchmarks_is_torchs_of_seed_0():
    clip = np.zeros((2, 4, 5, 3), np.float32)
    noisy = ClipNoise((20, 20), benchmark=True).apply_to_clip(clip, np.random.default_rng(3))
    torch.manual_seed(0)
    expected = torch.normal(mean=0, std=torch.full((2, 3, 4, 5), 20 / 255))
    torch.testing.assert_close(torch.from_numpy(noisy[..., :3]).permute(0, 3, 1, 2), expected)


def test_other_degradations_draw_each_frame_anew():
    clip = np.full((2, 8, 8, 3), 0.5, np.float32)
    noisy = GaussianNoise((10, 10)).apply_to_clip(clip, np.random.default_rng(0))
    assert noisy.shape == clip.shape
    assert not np.array_equal(noisy[0], noisy[1])


def test_a_clip_that_is_too_short_is_named(tmp_path):
    write_clips(tmp_path, ["short"], count=3)
    dataset = ClipDataset(pair_clips(tmp_path / "input", tmp_path / "target"), patch_size=8, num_frames=4)
    with pytest.raises(DataError, match="short must have at least 4 frames, got 3"):
        dataset[0]


@pytest.mark.parametrize("options", [{"num_frames": 1}, {"repeat": 0}])
def test_options_out_of_range_are_refused(tmp_path, options):
    write_clips(tmp_path, ["a"], count=2)
    with pytest.raises(ValueError, match=next(iter(options))):
        ClipDataset(pair_clips(tmp_path / "input", tmp_path / "target"), **options)
