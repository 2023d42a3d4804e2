"""RealBlur as arranged and as released, with toy images."""

import pytest

from datamodules import DataError, RealBlurDataModule
from datamodules.restoration.realblur import read_pair_list
from tests.datamodules.conftest import write_pairs

FOLDER = "RealBlur-R_BM3D_ECC_IMCORR_centroid_itensity_ref"


def release(root, split="test", name="RealBlur_R", ends="\n", suffix=".png"):
    lines = []
    for scene in ("scene050", "scene051"):
        folder = root / FOLDER / scene
        write_pairs(folder, ["1", "2"], inputs="blur", targets="gt", suffix=suffix)
        for number in (1, 2):
            for kind in ("gt", "blur"):
                file = folder / kind / f"{number}{suffix}"
                file.rename(file.with_stem(f"{kind}_{number}"))
            place = f"{FOLDER}/{scene}"
            lines.append(f"{place}/gt/gt_{number}{suffix} {place}/blur/blur_{number}{suffix} ")
    (root / f"{name}_{split}_list.txt").write_bytes((ends.join(lines) + ends).encode("utf-8-sig"))


@pytest.mark.parametrize("place", ["test/{}", "{}/test"])
def test_arranged_sets_are_found(tmp_path, place, caplog):
    for name in ("RealBlur_J", "RealBlur_R"):
        write_pairs(tmp_path / place.format(name), ["1", "2"], suffix=".PNG")
    data = RealBlurDataModule(tmp_path, num_workers=0)
    data.setup("test")
    assert data.test_set_names == ["RealBlur_J", "RealBlur_R"]
    assert data.published_counts == {"RealBlur_J": 980, "RealBlur_R": 980}
    assert "RealBlur_R has 2 pairs, 980 as published" in caplog.text


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("suffix", [".png", ".PNG"])
def test_the_release_is_read_by_its_lists(tmp_path, ends, suffix, caplog):
    (tmp_path / "there").mkdir()
    release(tmp_path / "there", ends=ends, suffix=suffix)
    (tmp_path / "link").symlink_to(tmp_path / "there")
    data = RealBlurDataModule(tmp_path / "link", num_workers=0)
    data.setup("test")
    assert data.test_set_names == ["RealBlur_R"]
    assert data.absent_test_sets == ["RealBlur_J"]
    names = [batch["name"][0] for batch in data.test_dataloader()[0]]
    assert names == [f"scene05{scene}-blur_{number}" for scene in (0, 1) for number in (1, 2)]
    pairs = data.find_set("RealBlur_R")
    assert {path.parent.name for path in pairs.inputs} == {"blur"}
    assert {path.parent.name for path in pairs.targets} == {"gt"}


def test_it_trains_on_either_subset_or_both(tmp_path, caplog):
    release(tmp_path, "train", "RealBlur_R")
    write_pairs(tmp_path / "RealBlur_J" / "train", ["1", "2"])
    options = {"patch_size": 8, "batch_size": 6, "num_workers": 0}
    data = RealBlurDataModule(tmp_path, train_sets=["RealBlur_J", "RealBlur_R"], **options)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert len(batch["name"]) == 6
    assert batch["input"].shape == (6, 3, 8, 8)
    assert "RealBlur_R/train has 4 pairs, 3758 as published" in caplog.text


@pytest.mark.parametrize(
    "line",
    ["s/gt/gt_1.png", "s/gt/gt_1.png s/gt/gt_2.png", "s/gt/gt_1.png s/sharp/1.png", "s/gt/1.png s/blur/1.png 3"],
)
def test_other_lists_are_refused(tmp_path, line):
    release(tmp_path)
    listing = tmp_path / "RealBlur_R_test_list.txt"
    listing.write_text(listing.read_text("utf-8-sig") + line)
    with pytest.raises(DataError, match=r"line 5 of .*_list\.txt must be two paths, of a file in gt and one in blur"):
        read_pair_list(listing)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match=r"must hold a test set \(RealBlur_J, RealBlur_R\), got an empty folder"):
        RealBlurDataModule(tmp_path).setup("test")
    with pytest.raises(DataError, match=r"RealBlur_J/train with input and target, or RealBlur_J_train_list\.txt"):
        RealBlurDataModule(tmp_path).setup("fit")
    with pytest.raises(DataError, match=r"train_sets \(\[\]\)"):
        RealBlurDataModule(tmp_path, train_sets=[]).train_pairs()
    with pytest.raises(ValueError, match=r"test_sets \(RealBlur\) must be among RealBlur_J, RealBlur_R"):
        RealBlurDataModule(tmp_path, test_sets=["RealBlur"])
    write_pairs(tmp_path / "test" / "RealBlur_J", ["1"], targets="other")
    with pytest.raises(DataError, match="root's test/RealBlur_J/target"):
        RealBlurDataModule(tmp_path).setup("test")


def test_missing_files_of_a_list_are_named(tmp_path):
    release(tmp_path)
    (tmp_path / FOLDER / "scene051" / "gt" / "gt_2.png").unlink()
    with pytest.raises(DataError, match=r"got 4 pairs, 1 files missing, the first .*scene051/gt/gt_2\.png"):
        read_pair_list(tmp_path / "RealBlur_R_test_list.txt")
    (tmp_path / "empty.txt").write_text("\r\n")
    with pytest.raises(DataError, match="got 0 pairs, 0 files missing; download it again"):
        read_pair_list(tmp_path / "empty.txt")
