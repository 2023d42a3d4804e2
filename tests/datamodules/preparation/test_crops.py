"""Crops and packs of toy data sets, and resumption; a real process is killed in tests/trainers."""

import json
import shutil

import numpy as np
import pytest

from datamodules import GoProDataModule, RESIDEDataModule, SIDDDataModule, SuperResolutionDataModule
from datamodules.errors import DataError
from datamodules.files.images import has_images, list_images, read_image, write_image
from datamodules.files.packs import PACK_NAME
from datamodules.preparation.crops import prepare
from datamodules.preparation.inventory import find_source
from datamodules.preparation.published_crops import choose_cut, make_jobs
from tests.datamodules.conftest import coordinates, write_pairs
from tests.datamodules.preparation.conftest import faults_of, make


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("workers", [0, 2])
def test_gopro_is_cut_alike_and_trains_beside_a_link_to_its_test_set(gopro, tmp_path, workers, caplog):
    made = make("gopro", gopro, tmp_path / "out", size=32, step=16, workers=workers)
    assert (made.images, made.crops, made.new) == (3, 3 * 2 * 3, 3)
    # Red is the row, green the column: every crop tells where it is from.
    crop = read_image(tmp_path / "out/GoPro/train/input/b-004.png")
    assert np.array_equal(crop, coordinates(40, 56)[8:40, 16:48])
    for path in list_images(tmp_path / "out/GoPro/train/input"):
        assert np.array_equal(read_image(path), read_image(path.parents[1] / "target" / path.name))
    data = GoProDataModule(tmp_path / "out", val_images=2, batch_size=18, patch_size=8, num_workers=0)
    data.setup("fit")
    assert len(next(iter(data.train_dataloader()))["name"]) == 18
    assert len(data.val_dataloader()[0]) == 2
    # Crops count as the images that they are of.
    assert "GoPro/train has 3 pairs, 2103 as published" in caplog.text


def test_a_second_run_does_nothing(gopro, tmp_path):
    make("gopro", gopro, tmp_path / "out", size=32)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.joinpath("out").rglob("*")}
    assert make("gopro", gopro, tmp_path / "out", size=32).new == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.joinpath("out").rglob("*")} == times
    assert [path.name for path in (tmp_path / "out/GoPro").iterdir() if path.name.startswith(".")] == []


def test_what_was_made_otherwise_is_not_touched(gopro, tmp_path):
    make("gopro", gopro, tmp_path / "out", size=32)
    with pytest.raises(DataError, match=r"must be of this run's size \(16\), got 32 of a former run"):
        make("gopro", gopro, tmp_path / "out", size=16)
    write_pairs(gopro / "GoPro/train", ["d"], size=(40, 56))
    with pytest.raises(DataError, match="must be made of the source as it is now"):
        make("gopro", gopro, tmp_path / "out", size=32)
    (tmp_path / "out/GoPro/train/prepared.json").unlink()
    with pytest.raises(DataError, match="must be absent or made by a former run, got neither"):
        make("gopro", gopro, tmp_path / "out", size=32)
    with pytest.raises(DataError, match=r"source/GoPro/train\) must be absent or made by a former run"):
        make("gopro", gopro, gopro, size=32)


def test_unusable_images_are_all_named_and_the_next_run_goes_on(gopro, tmp_path):
    bad = [gopro / "GoPro/train/input/a.png", gopro / "GoPro/train/target/c.png"]
    for path in bad:
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match="got 2 that are not") as caught:
        make("gopro", gopro, tmp_path / "out", size=32)
    assert all(str(path) in str(caught.value) for path in bad)
    assert not (tmp_path / "out/GoPro/train").exists()
    unfinished = tmp_path / "out/GoPro/.train.unfinished"
    # As after a power cut: half a line, a half-written file, and crops of an image that is taken away.
    with (unfinished / "log").open("a") as log:
        log.write('{"name": "c", "cro')
    (unfinished / "crops/input/.c-000.png.1.tmp").write_bytes(b"half")
    write_image(unfinished / "crops/input/gone-000.png", coordinates(8, 8))
    with pytest.raises(DataError, match=r"this run's size \(16\), got 32 of a former run"):
        make("gopro", gopro, tmp_path / "out", size=16)
    write_image(bad[0], coordinates(40, 56))
    bad[1].unlink()
    (gopro / "GoPro/train/input/c.png").unlink()
    made = make("gopro", gopro, tmp_path / "out", size=32)
    assert (made.images, made.new) == (2, 1)
    make("gopro", gopro, tmp_path / "whole", size=32)
    assert content(tmp_path / "out/GoPro/train") == content(tmp_path / "whole/GoPro/train")
    assert not unfinished.exists()


def test_an_image_that_was_replaced_meanwhile_is_cut_again(gopro, tmp_path):
    bad = gopro / "GoPro/train/input/a.png"
    bad.write_bytes(bad.read_bytes()[:60])
    with pytest.raises(DataError):
        make("gopro", gopro, tmp_path / "out", size=32)
    for path, image in ((bad, coordinates(40, 56)), (gopro / "GoPro/train/input/b.png", 255 - coordinates(40, 56))):
        write_image(path, image)
    assert make("gopro", gopro, tmp_path / "out", size=32).new == 2
    crop = read_image(tmp_path / "out/GoPro/train/input/b-000.png")
    assert np.array_equal(crop, 255 - coordinates(40, 56)[:32, :32])


def test_a_run_at_work_keeps_others_out(gopro, tmp_path):
    def interfere(*_):
        with pytest.raises(DataError, match="must not be in use, got another run at work"):
            make("gopro", gopro, tmp_path / "out", size=32)

    (job,) = make_jobs(find_source("gopro", gopro), tmp_path / "out", choose_cut("gopro", 32))
    assert prepare(job, progress=interfere).new == 3


def test_sidd_medium_is_cut_at_random_places(tmp_path, caplog):
    scene = tmp_path / "source/SIDD_Medium_Srgb/Data/0001_001_S6_00100_00060_3200_L"
    for number in ("010", "011"):
        for kind in ("NOISY", "GT"):
            write_image(scene / f"0001_{kind}_SRGB_{number}.PNG", coordinates(40, 56))
    write_pairs(tmp_path / "source/val", ["1"], targets="groundtruth")
    made = make("sidd", tmp_path / "source", tmp_path / "out", size=16, random=5)
    assert (made.images, made.crops) == (2, 10)
    data = SIDDDataModule(tmp_path / "out", batch_size=10, patch_size=16, num_workers=0)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert sorted(batch["name"])[5] == "0001_011-000"
    assert np.array_equal(batch["input"], batch["target"])
    assert len(data.val_dataloader()[0]) == 1
    assert make("sidd", tmp_path / "source", tmp_path / "out", size=16, random=5).new == 0
    (scene / "0001_GT_SRGB_010.PNG").unlink()
    (scene / "0001_NOISY_SRGB_011.PNG").unlink()
    faults = faults_of("sidd", tmp_path / "source")
    assert [fault.split(" must")[0].rpartition("/")[2] for fault in faults] == [
        "0001_NOISY_SRGB_010.PNG",
        "0001_GT_SRGB_011.PNG",
    ]


@pytest.mark.parametrize("low", [True, False])
def test_div2k_s_crops_lie_on_the_pixels_of_the_inputs(tmp_path, low):
    base = tmp_path / "source/DIV2K"
    for number in ("0001", "0002"):
        write_image(base / "DIV2K_train_HR" / f"{number}.png", coordinates(20, 28, 3))
        if low:
            write_image(base / "DIV2K_train_LR_bicubic/X3" / f"{number}x3.png", coordinates(20, 28))
    write_pairs(tmp_path / "source/Set5", ["baby"], scale=3, inputs="LR_bicubic/X3", targets="HR")
    made = make("div2k", tmp_path / "source", tmp_path / "out", scale=3, size=48, step=24)
    assert (made.images, made.crops) == (2, 2 * 2 * 3)
    data = SuperResolutionDataModule(
        tmp_path / "out", scale=3, batch_size=6, patch_size=16, augment=False, num_workers=0
    )
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    if low:
        assert np.array_equal(batch["input"].numpy(), batch["target"].numpy()[..., ::3, ::3])
    assert batch["target"].shape == (6, 3, 48, 48)
    assert data.val_set_names == ["Set5"]
    with pytest.raises(ValueError, match=r"crop_size \(50\) must be a multiple of the scale, 3"):
        make("div2k", tmp_path / "source", tmp_path / "other", scale=3, size=50)


def test_a_pack_holds_the_same_crops(gopro, tmp_path):
    make("gopro", gopro, tmp_path / "files", size=32)
    made = make("gopro", gopro, tmp_path / "pack", size=32, pack=True, workers=1)
    inputs = {name: tmp_path / name / "GoPro/train/input" for name in ("files", "pack")}
    assert [path.name for path in inputs["pack"].iterdir()] == [PACK_NAME]
    assert has_images(inputs["pack"])
    pairs = list(zip(list_images(inputs["files"]), list_images(inputs["pack"]), strict=True))
    assert len(pairs) == made.crops
    for file, packed in pairs:
        assert file.name == packed.name
        assert np.array_equal(read_image(file), read_image(packed))
    for workers in (0, 2):
        data = GoProDataModule(tmp_path / "pack", val_images=1, batch_size=2, patch_size=8, num_workers=workers)
        data.setup("fit")
        assert sum(len(batch["name"]) for batch in data.train_dataloader()) == made.crops
    assert make("gopro", gopro, tmp_path / "pack", size=32, pack=True).new == 0


def test_whole_images_are_packed_for_sets_that_are_not_cut(tmp_path):
    source = tmp_path / "source/RESIDE-IN/train"
    for name in ("1_1", "1_2", "2_1"):
        write_image(source / "hazy" / f"{name}.png", coordinates(20, 24))
    for name in ("1", "2"):
        write_image(source / "GT" / f"{name}.jpg", coordinates(24, 28))
    make("reside", tmp_path / "source", tmp_path / "out", pack=True)
    data = RESIDEDataModule(tmp_path / "out", batch_size=3, patch_size=8, num_workers=0)
    pairs = data.train_pairs()
    assert pairs.names == ("1_1", "1_2", "2_1")
    assert np.array_equal(read_image(pairs.targets[2]), read_image(source / "GT/2.jpg"))
    with pytest.raises(ValueError, match=r"pack \(False\) must be true for reside"):
        make("reside", tmp_path / "source", tmp_path / "other")
    with pytest.raises(ValueError, match="crop_size must be null for reside"):
        make("reside", tmp_path / "source", tmp_path / "other", size=8, pack=True)
    for path in (source / "hazy/1_1.png", source / "hazy/2_1.png"):
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="got 2 that are not") as caught:
        make("reside", tmp_path / "source", tmp_path / "third", pack=True)
    assert "2_1.png" in str(caught.value)
    assert not (tmp_path / "third/RESIDE-IN/train").exists()


@pytest.mark.parametrize("crops", [1, 3, 2**40, -1, True, "6", None, [6]])
def test_a_log_that_does_not_tell_of_the_crops_that_are_there_is_not_believed(gopro, tmp_path, crops):
    made = make("gopro", gopro, tmp_path / "whole", size=32, step=16)
    unfinished = tmp_path / "out/GoPro/.train.unfinished"
    shutil.copytree(tmp_path / "whole/GoPro/train", unfinished / "crops")
    (unfinished / "crops/prepared.json").unlink()
    sizes = [(gopro / f"GoPro/train/{half}/a.png").stat().st_size for half in ("input", "target")]
    (unfinished / "log").write_text(json.dumps({"name": "a", "crops": crops, "bytes": sizes}) + "\n")
    again = make("gopro", gopro, tmp_path / "out", size=32, step=16)
    assert (again.crops, again.new) == (made.crops, 3)
