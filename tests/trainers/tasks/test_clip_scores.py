"""Scores of clips: frames clamped and rounded, mean over a clip, mean over clips."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from datamodules import Vid4DataModule, Vimeo90KDataModule, demo_clip
from datamodules.files.images import to_tensor
from tests.datamodules.clips.making import write_frames
from tests.trainers.clip_networks import ClipNetwork
from tests.trainers.tasks.one_value import trainer
from trainers import RestorationTask
from trainers.metrics import PSNR, SSIM, flicker
from trainers.tasks.clip_scores import clip_score
from trainers.tiling.clips import ClipTiles, restore_clip

pytestmark = pytest.mark.filterwarnings(
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated", "ignore:The '.*_dataloader' does not have many workers"
)


class Clips(torch.utils.data.Dataset):
    """Clips of different lengths."""

    def __init__(self, *lengths):
        self.lengths = lengths

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, index):
        clip = torch.rand(self.lengths[index], 3, 16, 24, generator=torch.Generator().manual_seed(index))
        return {"input": clip, "target": clip.flip(0), "name": f"clip{index}"}


def plain_psnr(restored, target):
    """PSNR of a frame, computed independently in NumPy."""
    first, second = (np.rint(np.clip(each, 0, 1) * 255) for each in (restored, target))
    return 10 * np.log10(255**2 / np.mean((first - second) ** 2))


def test_a_clips_score_is_the_mean_over_its_frames_and_a_sets_the_mean_over_its_clips(tmp_path, capsys):
    task = RestorationTask(ClipNetwork(), metrics=[PSNR(), SSIM()])
    dataset = Clips(3, 6)
    trainer(tmp_path).test(task, DataLoader(dataset), verbose=False)
    record = json.loads((tmp_path / "metrics.json").read_text())["sets"]["test"]
    assert record["images"] == 2
    means = []
    for sample in dataset:
        restored = restore_clip(task.net, sample["input"]).detach().numpy()
        frames = [plain_psnr(*pair) for pair in zip(restored, sample["target"].numpy(), strict=True)]
        assert record["per_frame"][sample["name"]]["psnr"] == pytest.approx(frames)
        means.append(np.mean(frames))
        assert record["per_image"][sample["name"]]["psnr"] == pytest.approx(means[-1])
    assert record["mean"]["psnr"] == pytest.approx(np.mean(means))
    assert "clips" in capsys.readouterr().out


def test_of_vimeo_the_middle_frame_of_the_mirrored_clip_is_scored(tmp_path):
    rng = np.random.default_rng(0)
    clip = rng.integers(0, 256, (7, 32, 32, 3), np.uint8)
    write_frames(tmp_path / "vimeo_septuplet/sequences/00001/0001", clip, start=1, digits=1)
    (tmp_path / "vimeo_septuplet/sep_testlist.txt").write_text("00001/0001\n")
    task = RestorationTask(ClipNetwork(4), metrics=[PSNR("y")], clips=ClipTiles(mirror=True))
    trainer(tmp_path).test(task, Vimeo90KDataModule(tmp_path, num_workers=0), verbose=False)
    record = json.loads((tmp_path / "metrics.json").read_text())
    [values] = record["sets"]["Vimeo-90K-T"]["per_frame"]["00001-0001"].values()
    sample = Vimeo90KDataModule(tmp_path, num_workers=0)
    sample.setup("test")
    small = sample.test_dataloader()[0].dataset[0]["input"]
    both = task.net(torch.cat([small, small.flip(0)])[None])[0]
    middle = (both[3] + both[10]) / 2
    expected = PSNR("y").measure(middle[None].detach(), to_tensor(clip[3])[None]).item()
    assert values == [pytest.approx(expected)]
    assert record["clips"]["mirror"] is True
    assert record["partial"] is True


def test_vid4_is_scored_in_tiles_of_time(tmp_path):
    rng = np.random.default_rng(0)
    write_frames(tmp_path / "Vid4/GT/walk", rng.integers(0, 256, (6, 32, 32, 3), np.uint8))
    task = RestorationTask(ClipNetwork(4), metrics=[PSNR("y")], clips=ClipTiles(frames=4), tile=8, overlap=0)
    task.save_tests = True
    trainer(tmp_path).test(task, Vid4DataModule(tmp_path, test_sets=["Vid4"], num_workers=0), verbose=False)
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert len(record["sets"]["Vid4"]["per_frame"]["walk"]["psnr-y"]) == 6
    assert record["clips"]["frames"] == 4


def test_clips_are_drawn_and_saved(tmp_path):
    task = RestorationTask(ClipNetwork(channels=4))
    sample = {"input": torch.rand(1, 4, 4, 16, 16), "target": torch.rand(1, 4, 3, 16, 16), "name": ["a"]}
    [restored] = task.restore(sample)
    assert restored.shape == (4, 3, 16, 16)
    assert task.draw(sample["input"][0], restored, sample["target"][0], name="a").ndim == 3
    task.save(restored, tmp_path, "a")
    assert [path.name for path in sorted((tmp_path / "a").iterdir())] == [f"{number:08}.png" for number in range(4)]


def test_flicker_measures_what_changes_and_not_what_stays():
    target = torch.rand(6, 3, 32, 32, dtype=torch.float64)
    still = target + 0.1 * torch.randn(1, 3, 32, 32)
    anew = target + 0.1 * torch.randn(6, 3, 32, 32)
    assert flicker(still, target) == pytest.approx(0, abs=1e-9)
    assert flicker(anew, target) == pytest.approx(2**0.5 * 25.5, rel=0.05)
    for shape in ((1, 3, 8, 8), (3, 8, 8)):
        with pytest.raises(ValueError, match="at least two frames"):
            flicker(torch.zeros(shape), torch.zeros(shape))


def test_only_scored_frames_count():
    target = torch.rand(5, 3, 16, 16)
    score = clip_score({"psnr": PSNR()}, target.roll(1, 0), target, [1, 3], data_set="set", name="clip")
    assert len(score.frames["psnr"]) == 2
    assert score.values["psnr"] == pytest.approx(np.mean(score.frames["psnr"]))


def plain_luma(frame):
    return 16 + (np.rint(255 * frame) * np.array([65.481, 128.553, 24.966])[:, None, None]).sum(0) / 255


def plain_ssim(first, second):
    """Structural similarity of two images of levels, computed independently in NumPy."""
    window = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window /= window.sum()

    def mean(image):
        for axis in (0, 1):
            image = np.apply_along_axis(lambda line: np.convolve(line, window, "valid"), axis, image)
        return image

    means = mean(first), mean(second)
    spreads = [mean(image**2) - at**2 for image, at in zip((first, second), means, strict=True)]
    common = mean(first * second) - means[0] * means[1]
    low, high = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    numerator = (2 * means[0] * means[1] + low) * (2 * common + high)
    return (numerator / ((means[0] ** 2 + means[1] ** 2 + low) * (sum(spreads) + high))).mean()


def test_luma_of_a_bicubic_clip_is_measured_as_by_numpy_alone():
    target = torch.from_numpy(demo_clip(num_frames=2, size=32)).permute(0, 3, 1, 2).float() / 255
    small = F.interpolate(target, scale_factor=0.25, mode="bicubic", antialias=True)
    restored = F.interpolate(small, scale_factor=4, mode="bicubic").clamp(0, 1)
    metrics = {"psnr": PSNR("y"), "ssim": SSIM("y")}
    score = clip_score(metrics, restored, target, range(2), data_set="set", name="clip")
    lumas = [[plain_luma(frame.numpy()) for frame in clip] for clip in (restored, target)]
    pairs = list(zip(*lumas, strict=True))
    assert score.frames["psnr"] == pytest.approx([10 * np.log10(255**2 / np.mean((a - b) ** 2)) for a, b in pairs])
    assert score.frames["ssim"] == pytest.approx([plain_ssim(a, b) for a, b in pairs])
