"""Super-resolution sets in every layout, with toy images."""

import pytest
import torch

from datamodules import DataError, SuperResolutionDataModule
from datamodules.degradations.imresize import imresize
from datamodules.files.images import read_image, to_tensor, write_image
from tests.datamodules.conftest import write_pairs


def write_set(folder, names, scale=2, size=(12, 16), layout=("HR", "LR_bicubic/X{}"), suffix=".png", mark="x{}"):
    high, low = layout[0], layout[1].format(scale)
    write_pairs(folder, names, size, scale, inputs=low, targets=high, suffix=suffix)
    for path in sorted((folder / low).iterdir()):
        path.rename(path.with_stem(path.stem + mark.format(scale)))


@pytest.fixture
def photograph(rng):
    """A smooth 8-bit image of odd sides."""
    image = rng.integers(0, 256, (5, 7, 3)).repeat(6, 0).repeat(5, 1)[:29, :33]
    return image.astype("uint8")


def batches(data):
    return [batch for loader in data.test_dataloader() for batch in loader]


@pytest.mark.parametrize("layout", [("HR", "LR_bicubic/X{}"), ("GTmod12", "LRbicx{}")])
@pytest.mark.parametrize("mark", ["x{}", ""])
@pytest.mark.parametrize("suffix", [".png", ".PNG"])
def test_layouts_and_names(tmp_path, layout, mark, suffix):
    write_set(tmp_path / "Set5", ["baby", "bird"], 4, layout=layout, mark=mark, suffix=suffix)
    data = SuperResolutionDataModule(tmp_path, scale=4, test_sets=["Set5"], num_workers=0)
    data.setup("test")
    first, second = batches(data)
    assert first["input"].shape == (1, 3, 12, 16)
    assert first["target"].shape == (1, 3, 48, 64)
    assert [first["name"], second["name"]] == [[f"baby{mark.format(4)}"], [f"bird{mark.format(4)}"]]


def test_a_target_is_cropped_to_a_multiple_of_the_scale(tmp_path, photograph):
    (tmp_path / "Set5" / "HR").mkdir(parents=True)
    write_image(tmp_path / "Set5" / "HR" / "woman.png", photograph)
    cropped = photograph[:24, :32]
    write_image(tmp_path / "Set5" / "LR_bicubic" / "X8" / "womanx8.png", imresize(cropped, 1 / 8))
    data = SuperResolutionDataModule(tmp_path, scale=8, test_sets=["Set5"], num_workers=0)
    data.setup("test")
    [batch] = batches(data)
    assert torch.equal(batch["target"][0], to_tensor(cropped))


@pytest.mark.parametrize("inner", ["HR", ""])
def test_low_resolution_is_made_where_there_is_none_and_told(tmp_path, photograph, inner, caplog):
    write_image(tmp_path / "Set5" / inner / "woman.png", photograph)
    data = SuperResolutionDataModule(tmp_path, scale=3, test_sets=["Set5"], num_workers=0)
    data.setup("test")
    assert "Set5 has no low-resolution images for scale 3" in caplog.text
    [batch] = batches(data)
    cropped = photograph[:27, :33]
    assert torch.equal(batch["target"][0], to_tensor(cropped))
    # The same as if it had been written to a file by MATLAB.
    torch.testing.assert_close(batch["input"][0], to_tensor(imresize(cropped, 1 / 3)), rtol=0, atol=1e-6)


def test_a_made_training_patch_is_what_the_whole_reduced_image_holds_there(tmp_path, rng):
    clean = rng.integers(0, 256, (64, 64, 3)).astype("uint8")
    write_image(tmp_path / "mine" / "1.png", clean)
    options = {"train_sets": ["mine"], "val_sets": [], "patch_size": 12, "batch_size": 1, "augment": False}
    data = SuperResolutionDataModule(tmp_path, scale=2, num_workers=0, **options)
    data.setup("fit")
    patch = next(iter(data.train_dataloader()))
    assert patch["input"].shape == (1, 3, 12, 12)
    assert patch["target"].shape == (1, 3, 24, 24)
    whole = to_tensor(clean)
    places = [
        (row, column)
        for row in range(41)
        for column in range(41)
        if torch.equal(whole[:, row : row + 24, column : column + 24], patch["target"][0])
    ]
    [(row, column)] = places
    # The image reduced whole, on the patch's own grid.
    cut = clean[row % 2 : 64 - row % 2, column % 2 : 64 - column % 2]
    reduced = to_tensor(imresize(cut, 1 / 2))
    part = reduced[:, row // 2 : row // 2 + 12, column // 2 : column // 2 + 12]
    torch.testing.assert_close(patch["input"][0], part, rtol=0, atol=1e-6)


def test_the_releases_of_div2k_and_flickr2k_train_together(tmp_path, caplog):
    for name, layout in (("DIV2K", "DIV2K_train"), ("DIV2K", "DIV2K_valid"), ("Flickr2K", "Flickr2K")):
        write_set(tmp_path / name, ["0001", "0002"], layout=(f"{layout}_HR", f"{layout}_LR_bicubic/X{{}}"))
    data = SuperResolutionDataModule(
        tmp_path,
        train_sets=["DIV2K", "Flickr2K"],
        val_sets=["DIV2K_valid"],
        patch_size=8,
        batch_size=4,
        num_workers=0,
    )
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert sorted(batch["name"]) == ["DIV2K-0001x2", "DIV2K-0002x2", "Flickr2K-0001x2", "Flickr2K-0002x2"]
    assert batch["input"].shape == (4, 3, 8, 8)
    assert batch["target"].shape == (4, 3, 16, 16)
    assert data.val_set_names == ["DIV2K_valid"]
    for text in ("DIV2K has 2 pairs, 800 as published", "DIV2K_valid has 2 pairs, 100", "Flickr2K has 2 pairs, 2650"):
        assert text in caplog.text
    # The folder of the release itself is a root too.
    assert len(SuperResolutionDataModule(tmp_path / "DIV2K").train_pairs()) == 2


def test_training_sets_with_and_without_inputs_do_not_mix(tmp_path):
    write_set(tmp_path / "DIV2K", ["1"], layout=("DIV2K_train_HR", "DIV2K_train_LR_bicubic/X{}"))
    write_pairs(tmp_path / "Flickr2K", ["1"], inputs="Flickr2K_HR", targets="other")
    data = SuperResolutionDataModule(tmp_path, train_sets=["DIV2K", "Flickr2K"])
    with pytest.raises(DataError, match=r"train_sets \(DIV2K, Flickr2K\) must all .* got none for Flickr2K"):
        data.train_pairs()


def test_absent_sets_are_told_and_counted(tmp_path, caplog):
    write_set(tmp_path / "Set5", ["baby"])
    write_set(tmp_path / "b100", ["1", "2"])
    data = SuperResolutionDataModule(tmp_path, num_workers=0)
    data.setup("test")
    assert data.test_set_names == ["Set5", "BSDS100"]
    assert data.absent_test_sets == ["Set14", "Urban100", "Manga109"]
    assert "absent" in caplog.text
    assert "BSDS100 has 2 pairs, 100 as published" in caplog.text
    assert data.published_counts == {"Set5": 5, "Set14": 14, "BSDS100": 100, "Urban100": 100, "Manga109": 109}


@pytest.mark.parametrize(("folder", "name", "counts"), [("set5", "Set5", {"Set5": 5}), ("mine", "mine", {})])
def test_the_root_may_be_a_set_also_behind_a_link(tmp_path, folder, name, counts):
    write_set(tmp_path / "there" / folder, ["baby"])
    (tmp_path / folder).symlink_to(tmp_path / "there" / folder)
    data = SuperResolutionDataModule(tmp_path / folder, num_workers=0)
    data.setup("test")
    assert data.test_set_names == [name]
    assert data.published_counts == counts
    assert SuperResolutionDataModule(tmp_path).folder_of(folder) == tmp_path / folder


def test_what_is_missing_is_named(tmp_path):
    write_set(tmp_path / "Set5", ["baby", "bird"])
    with pytest.raises(DataError, match=r"must hold a test set \(Set14\), got Set5"):
        SuperResolutionDataModule(tmp_path, test_sets=["Set14"]).setup("test")
    with pytest.raises(DataError, match=r"test_sets \(Sets\) must be in .*, got Set5"):
        SuperResolutionDataModule(tmp_path, test_sets=["Set5", "Sets"]).setup("test")
    with pytest.raises(DataError, match=r"train_sets \(DIV2K\) must be in"):
        SuperResolutionDataModule(tmp_path).setup("fit")
    with pytest.raises(DataError, match=r"val_sets \(Set14\) must be in .* empty list"):
        SuperResolutionDataModule(tmp_path, val_sets=["Set14"]).setup("validate")
    with pytest.raises(DataError, match=r"train_sets \(\[\]\) must name"):
        SuperResolutionDataModule(tmp_path, train_sets=[]).train_pairs()
    with pytest.raises(DataError, match="got no such folder"):
        SuperResolutionDataModule(tmp_path / "gone").setup("test")
    (tmp_path / "Set5" / "HR" / "bird.png").unlink()
    with pytest.raises(DataError, match=r"1 without counterpart: .*birdx2\.png"):
        SuperResolutionDataModule(tmp_path, test_sets=["Set5"]).setup("test")
    (tmp_path / "Set5" / "HR").rename(tmp_path / "Set5" / "high")
    with pytest.raises(DataError, match=r"must hold HR or GTmod12 .* got low-resolution images only"):
        SuperResolutionDataModule(tmp_path, test_sets=["Set5"]).setup("test")


def test_targets_of_a_wrong_size_are_refused(tmp_path):
    write_set(tmp_path / "Set5", ["baby"])
    low = tmp_path / "Set5" / "LR_bicubic" / "X2" / "babyx2.png"
    write_image(low, read_image(low)[:11])
    data = SuperResolutionDataModule(tmp_path, test_sets=["Set5"], num_workers=0)
    data.setup("test")
    with pytest.raises(DataError, match="must be 22×32 pixels"):
        batches(data)


def test_other_scales_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"scale \(5\) must be one of 2, 3, 4, 8"):
        SuperResolutionDataModule(tmp_path, scale=5)
