"""Clean folders with the benchmarks' noise, with noise for training, and as JPEG."""

import cv2
import numpy as np
import pytest
import torch

from datamodules import DataError, GaussianDenoisingDataModule, JPEGDataModule
from datamodules.files.images import write_image


@pytest.fixture
def clean(rng):
    """A smooth colour image of 24×32 pixels, and a grey one."""
    image = rng.integers(0, 256, (6, 8, 3)).astype("uint8")
    image = cv2.resize(image, (32, 24), interpolation=cv2.INTER_CUBIC)
    return image, image[..., :1].copy()


@pytest.fixture
def root(tmp_path, clean):
    for folder, names in (("Kodak24", ["kodim01.PNG", "kodim02.png"]), ("mcmaster", ["1.TIF"]), ("mine", ["a.bmp"])):
        for name in names:
            write_image(tmp_path / folder / name, clean[0])
    write_image(tmp_path / "Set12" / "01.png", clean[1])
    return tmp_path


def first(data):
    data.setup("test")
    return next(iter(data.test_dataloader()[0]))


def test_colour_noise_is_that_of_swinirs_script(root, clean):
    batch = first(GaussianDenoisingDataModule(root, sigma=50, test_sets=["Kodak24"], num_workers=0))
    # Read by OpenCV, blue first; noise in double precision, neither clipped nor rounded.
    image = cv2.imread(str(root / "Kodak24" / "kodim01.PNG"), cv2.IMREAD_COLOR).astype(np.float32) / 255.0
    np.random.seed(seed=0)
    noisy = image + np.random.normal(0, 50 / 255.0, image.shape)
    expected = torch.from_numpy(np.transpose(noisy[:, :, [2, 1, 0]], (2, 0, 1))).float()
    torch.testing.assert_close(batch["input"][0], expected, rtol=0, atol=1e-7)
    assert batch["input"].min() < 0
    assert torch.equal(batch["target"][0], torch.from_numpy(clean[0]).permute(2, 0, 1) / 255)
    assert batch["name"] == ["kodim01"]


def test_grey_noise_is_that_of_swinirs_script(root):
    batch = first(GaussianDenoisingDataModule(root, sigma=15, test_sets=["Set12"], channels=1, num_workers=0))
    image = cv2.imread(str(root / "Set12" / "01.png"), cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255.0
    np.random.seed(seed=0)
    expected = torch.from_numpy(image + np.random.normal(0, 15 / 255.0, image.shape)).float()
    torch.testing.assert_close(batch["input"][0, 0], expected, rtol=0, atol=1e-7)


def test_the_published_sets_depend_on_the_channels(root, caplog):
    colour, grey = (GaussianDenoisingDataModule(root, channels=channels) for channels in (3, 1))
    assert colour.published_counts == {"CBSD68": 68, "Kodak24": 24, "McMaster": 18, "Urban100": 100}
    assert grey.published_counts == {"Set12": 12, "BSD68": 68, "Urban100": 100}
    colour.setup("test")
    assert colour.test_set_names == ["Kodak24", "McMaster"]
    assert colour.absent_test_sets == ["CBSD68", "Urban100"]
    assert "Kodak24 has 2 pairs, 24 as published" in caplog.text
    grey.setup("test")
    assert grey.test_set_names == ["Set12"]


def test_any_folder_may_be_named_or_be_the_root(root):
    data = GaussianDenoisingDataModule(root, test_sets=["mine"], num_workers=0)
    assert data.published_counts == {}
    assert first(data)["name"] == ["a"]
    (root / "link").symlink_to(root / "Kodak24")
    data = GaussianDenoisingDataModule(root / "link", num_workers=0)
    data.setup("test")
    assert data.test_set_names == ["Kodak24"]
    assert data.published_counts == {"Kodak24": 24}


def test_a_stray_image_beside_the_sets_is_no_set(root, clean):
    write_image(root / "preview.png", clean[0])
    data = GaussianDenoisingDataModule(root)
    data.setup("test")
    assert data.test_set_names == ["Kodak24", "McMaster"]


def test_training_noise_is_new_each_time_and_of_the_wanted_strength(root, clean):
    write_image(root / "flat" / "1.png", np.full((64, 64, 3), 128, np.uint8))
    options = {"train_sets": ["flat"], "patch_size": 64, "batch_size": 1, "num_workers": 0, "repeat": 2}
    data = GaussianDenoisingDataModule(root, sigma=25, **options)
    data.setup("fit")
    one, two = (batch["input"] - batch["target"] for batch in data.train_dataloader())
    assert not torch.equal(one, two)
    assert 255 * one.std().item() == pytest.approx(25, rel=0.03)
    data = GaussianDenoisingDataModule(root, train_sigma=(0, 1), **options)
    data.setup("fit")
    noise = next(iter(data.train_dataloader()))
    assert 255 * (noise["input"] - noise["target"]).std() < 1.1


def test_training_noise_is_not_clipped(root):
    write_image(root / "white" / "1.png", np.full((32, 32, 3), 255, np.uint8))
    data = GaussianDenoisingDataModule(root, train_sets=["white"], patch_size=32, batch_size=1, num_workers=0)
    data.setup("fit")
    assert next(iter(data.train_dataloader()))["input"].max() > 1


def test_colour_jpeg_is_opencvs(root):
    batch = first(JPEGDataModule(root, quality=10, test_sets=["Kodak24"], num_workers=0))
    image = cv2.imread(str(root / "Kodak24" / "kodim01.PNG"))
    encoded = cv2.imencode(".jpg", image, [int(cv2.IMWRITE_JPEG_QUALITY), 10])[1]
    expected = torch.from_numpy(cv2.imdecode(encoded, 1)[..., ::-1].copy()).permute(2, 0, 1) / 255
    torch.testing.assert_close(batch["input"][0], expected)
    assert not torch.equal(batch["input"], batch["target"])


def test_grey_jpeg_is_made_of_matlabs_y(root):
    batch = first(JPEGDataModule(root, quality=30, channels=1, test_sets=["Kodak24"], num_workers=0))
    image = cv2.imread(str(root / "Kodak24" / "kodim01.PNG"))
    luma = (np.dot(image, [24.966, 128.553, 65.481]) / 255.0 + 16.0).round().astype(np.uint8)
    assert torch.equal(batch["target"][0, 0], torch.from_numpy(luma) / 255)
    encoded = cv2.imencode(".jpg", luma, [int(cv2.IMWRITE_JPEG_QUALITY), 30])[1]
    torch.testing.assert_close(batch["input"][0, 0], torch.from_numpy(cv2.imdecode(encoded, 0)) / 255)


def test_jpeg_trains_at_a_range_of_qualities(root):
    data = JPEGDataModule(
        root, train_quality=(10, 90), train_sets=["Kodak24"], patch_size=16, batch_size=2, num_workers=0, repeat=4
    )
    data.setup("fit")
    errors = [(batch["input"] - batch["target"]).abs().mean().item() for batch in data.train_dataloader()]
    assert len(set(errors)) == 4
    assert JPEGDataModule(root).published_counts == {"LIVE1": 29}
    assert JPEGDataModule(root, channels=1).published_counts == {"Classic5": 5, "LIVE1": 29}


def test_what_is_missing_or_out_of_range_is_named(root, tmp_path):
    with pytest.raises(DataError, match=r"train_sets \(DIV2K\) must be in .*, got Kodak24"):
        GaussianDenoisingDataModule(root).setup("fit")
    with pytest.raises(DataError, match=r"train_sets \(\[\]\) must name"):
        GaussianDenoisingDataModule(root, train_sets=[]).train_pairs()
    with pytest.raises(DataError, match=r"must hold a test set .* got no such folder"):
        GaussianDenoisingDataModule(tmp_path / "gone").setup("test")
    (root / "CBSD68").mkdir()
    with pytest.raises(DataError, match=r"root's CBSD68 \(.*\) must hold images"):
        GaussianDenoisingDataModule(root).setup("test")
    with pytest.raises(ValueError, match=r"sigma \(-1\) must lie in"):
        GaussianDenoisingDataModule(root, sigma=-1)
    with pytest.raises(ValueError, match=r"quality \(\(0, 0\)\) must be a range"):
        JPEGDataModule(root, quality=0)
