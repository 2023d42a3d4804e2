"""Downloaded data sets looked over: their parts, counts and faults."""

import shutil

import numpy as np
import pytest

from datamodules import GoProDataModule, RESIDEDataModule
from datamodules.errors import DataError, collect_faults
from datamodules.files.images import write_image
from datamodules.preparation.inventory import find_source
from tests.datamodules.conftest import coordinates, write_pairs
from tests.datamodules.preparation.conftest import faults_of, make
from tests.spectral_data import smooth_cube, write_arad, write_cassi, write_hdf5


def test_every_fault_of_files_is_named(gopro):
    train = gopro / "GoPro/train"
    write_pairs(train, ["d", "e", "f", "g", "h"], size=(40, 56))
    (train / "target/a.png").unlink()
    (train / "input/b.png").unlink()
    write_image(train / "target/c.png", coordinates(40, 57))
    (train / "input/d.png").write_bytes((train / "input/d.png").read_bytes()[:-30])
    damaged = bytearray((train / "target/d.png").read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    (train / "target/d.png").write_bytes(damaged)
    write_image(train / "input/e.png", coordinates(40, 56).astype(np.uint16) * 257)
    write_image(train / "input/f.png", coordinates(40, 56)[..., :1])
    (train / "target/g.png").write_bytes(b"")
    (train / "target/h.png").unlink()
    (train / "target/h.png").symlink_to("nowhere.png")
    messages = [
        ("input/a.png", "must have a counterpart"),
        ("target/b.png", "must have a counterpart"),
        ("target/c.png", "must be 40×56 pixels"),
        ("input/d.png", "must be a complete image file"),
        ("target/d.png", "must be a complete image file"),
        ("input/e.png", "must have 8 bits a channel as published, got uint16"),
        ("input/f.png", "must be in colour"),
        ("target/g.png", "got: an empty file"),
        ("target/h.png", "No such file"),
    ]
    faults = faults_of("gopro", gopro)
    assert len(faults) == len(messages)
    for path, message in messages:
        assert any(str(train / path) in fault and message in fault for fault in faults), path


def test_every_fault_of_cubes_and_lists_is_named(tmp_path):
    root = write_arad(tmp_path / "ARAD_1K", numbers=(1, 2, 3, 4, 901))
    spectra = root / "Train_Spec"
    cube = smooth_cube(24, 32, 31, 0)
    cube[3, 4, 5] = np.nan
    write_hdf5(spectra / "ARAD_1K_0001.mat", "cube", cube)
    write_hdf5(spectra / "ARAD_1K_0002.mat", "rad", smooth_cube(24, 32, 31, 0))
    (spectra / "ARAD_1K_0003.mat").unlink()
    (spectra / "ARAD_1K_0004.mat").write_bytes((spectra / "ARAD_1K_0004.mat").read_bytes()[:900])
    write_image(root / "Train_RGB/ARAD_1K_0004.jpg", np.full((24, 32, 3), 9, np.uint8))
    (root / "split_txt/valid_list.txt").write_text("\r\n")
    faults = faults_of("ntire2022", tmp_path)
    expected = [
        ("0001.mat", "must be finite, got NaN"),
        ("0002.mat", "must hold the variable cube, got rad"),
        ("0003", "got no cube"),
        ("0004.mat", "must be a complete MATLAB file"),
        ("0004.jpg", "must show something"),
        ("valid_list.txt", "must name the scenes that valid, one a line, got none"),
    ]
    assert len(faults) == len(expected)
    for name, message in expected:
        assert any(name in fault and message in fault for fault in faults), name


def test_odd_but_usable_folders_have_no_faults(tmp_path):
    # Links for folders, suffixes in upper case, a list from Windows with its mark.
    root = write_arad(tmp_path / "elsewhere")
    for path in (root / "Train_Spec").iterdir():
        path.rename(path.with_suffix(".MAT"))
    for path in (root / "Train_RGB").iterdir():
        path.rename(path.with_suffix(".JPG"))
    names = root / "split_txt/train_list.txt"
    names.write_bytes(b"\xef\xbb\xbf" + names.read_bytes())
    (tmp_path / "ARAD_1K").mkdir()
    for name in ("Train_Spec", "Train_RGB", "split_txt"):
        (tmp_path / "ARAD_1K" / name).symlink_to(root / name)
    assert faults_of("ntire2022", tmp_path) == []
    assert [part.count for part in find_source("ntire2022", tmp_path).sets] == [3, 2]
    video = tmp_path / "videos/GOPR0001_11_00"
    write_pairs(video, ["000001"], inputs="blur", targets="sharp", suffix=".PNG")
    (tmp_path / "GOPRO_Large/train").mkdir(parents=True)
    (tmp_path / "GOPRO_Large/train/GOPR0001_11_00").symlink_to(video)
    assert faults_of("gopro", tmp_path) == []
    assert make("gopro", tmp_path, tmp_path / "out", size=16).images == 1


def test_a_missing_half_hides_no_other_fault(tmp_path):
    for video in ("GOPR0001_11_00", "GOPR0002_11_00"):
        write_pairs(tmp_path / "GOPRO_Large/train" / video, ["1", "2"], inputs="blur", targets="sharp")
    shutil.rmtree(tmp_path / "GOPRO_Large/train/GOPR0001_11_00/sharp")
    (tmp_path / "GOPRO_Large/train/GOPR0002_11_00/sharp/2.png").write_bytes(b"")
    faults = faults_of("gopro", tmp_path)
    assert any("GOPR0001_11_00/sharp) must be an existing folder" in fault for fault in faults)
    assert any("GOPR0002_11_00/sharp/2.png" in fault for fault in faults)


def test_rain13k_and_haze_are_verified(tmp_path):
    rain = tmp_path / "Rain13K"
    for place in ("train", "test/Rain100L", "test/Test100"):
        write_pairs(rain / place, ["1", "2"])
    (rain / "test/Test100/target/2.png").write_bytes(b"")
    found = find_source("rain13k", tmp_path)
    assert [part.name for part in found.sets] == ["Rain13K/train", "Rain100L", "Test100"]
    assert found.absent == ("Rain100H", "Test1200", "Test2800")
    assert len(found.faults.shortfalls) == 3
    (fault,) = faults_of("rain13k", tmp_path)
    assert "Test100/target/2.png" in fault
    haze = tmp_path / "SOTS-indoor"
    write_image(haze / "hazy/1400_1.png", coordinates(20, 24))
    write_image(haze / "hazy/1500_1.png", coordinates(20, 24))
    write_image(haze / "GT/1400.png", coordinates(24, 28))
    (fault,) = faults_of("reside", tmp_path)
    assert "hazy/1500_1.png must have its scene" in fault
    (fault,) = faults_of("reside", haze)
    assert find_source("reside", haze).faults.shortfalls == [
        "SOTS-indoor has 1 pairs, 500 as published: results are not comparable with published ones"
    ]


def test_every_subset_of_haze_is_verified_and_packed(tmp_path):
    for subset in ("RESIDE-OUT", "RESIDE-6K", "RSHaze"):
        for split in ("train", "test"):
            write_pairs(tmp_path / subset / split, ["0001", "0002"], inputs="hazy", targets="GT")
    # Outdoor hazes are named after their scene, airlight and scattering.
    (tmp_path / "RESIDE-OUT/train/hazy/0002.png").rename(tmp_path / "RESIDE-OUT/train/hazy/0002_0.8_0.04.png")
    (tmp_path / "RSHaze/test/hazy/0001.png").write_bytes(b"")
    found = find_source("reside", tmp_path)
    published = {part.name: (part.count, part.published) for part in found.sets}
    assert published == {
        "RESIDE-OUT/train": (2, 313950),
        "RESIDE-OUT/test": (2, 500),
        "RESIDE-6K/train": (2, 6000),
        "RESIDE-6K/test": (2, 1000),
        "RSHaze/train": (2, 51300),
        "RSHaze/test": (2, 2700),
    }
    (fault,) = faults_of("reside", tmp_path)
    assert "RSHaze/test/hazy/0001.png" in fault
    made = make("reside", tmp_path, tmp_path / "out", pack=True)
    assert [(one.images, one.crops) for one in made] == [(2, 2)] * 3
    data = RESIDEDataModule(tmp_path / "out", subset="RESIDE-OUT", patch_size=8, batch_size=2, num_workers=0)
    data.setup("fit")
    assert sorted(next(iter(data.train_dataloader()))["name"]) == ["0001", "0002_0.8_0.04"]
    assert data.val_set_names == ["RESIDE-OUT"]


def test_hide_and_realblur_are_verified(gopro, tmp_path):
    write_pairs(gopro / "HIDE/test", ["1", "2"])
    (gopro / "HIDE/test/target/2.png").write_bytes(b"")
    found = find_source("gopro", gopro)
    assert [(part.name, part.count, part.published) for part in found.sets][-1] == ("HIDE", 2, 2025)
    (fault,) = faults_of("gopro", gopro)
    assert "HIDE/test/target/2.png" in fault
    root = tmp_path / "RealBlur"
    write_pairs(root / "test/RealBlur_R", ["1"])
    for name in ("1", "2", "3"):
        write_image(root / f"J/scene001/blur/blur_{name}.png", coordinates(20, 24))
        write_image(root / f"J/scene001/gt/gt_{name}.png", coordinates(20, 24))
    lines = [f"J/scene001/gt/gt_{name}.png J/scene001/blur/blur_{name}.png" for name in ("1", "2", "3")]
    (root / "RealBlur_J_train_list.txt").write_text("\r\n".join(lines))
    (root / "J/scene001/gt/gt_1.png").unlink()
    (root / "J/scene001/blur/blur_2.png").unlink()
    (root / "J/scene001/gt/gt_3.png").write_bytes(b"")
    found = find_source("realblur", root)
    assert [(part.name, part.count) for part in found.sets] == [("RealBlur_J/train", 1), ("RealBlur_R/test", 1)]
    assert found.absent == ("RealBlur_J/test", "RealBlur_R/train")
    assert len(found.faults.shortfalls) == 2
    faults = faults_of("realblur", root)
    assert len(faults) == 3
    for path in ("gt/gt_1.png", "blur/blur_2.png", "gt/gt_3.png"):
        assert any(path in fault for fault in faults), path


def test_scenes_of_a_snapshot_camera_are_verified(tmp_path):
    root = write_cassi(tmp_path / "data", train=(1, 2, 3, 206))
    for path in (root / "cave_1024_28").iterdir():
        path.rename(path.with_suffix(".MAT"))
    assert faults_of("cassi", root) == []
    found = find_source("cassi", root)
    assert [(part.name, part.count) for part in found.sets] == [("CAVE", 3), ("KAIST", 2), ("mask", 1)]
    assert [message.partition(":")[0] for message in found.faults.shortfalls] == [
        "CAVE has 3 scenes, 205 as published",
        "KAIST has 2 scenes, 10 as published",
    ]
    (root / "cave_1024_28/scene1.MAT").write_bytes(b"")
    write_hdf5(root / "cave_1024_28/scene2.MAT", "img", smooth_cube(16, 16, 28, 0))
    write_hdf5(root / "TSA_simu_data/Truth/scene01.mat", "img", 2 * smooth_cube(16, 16, 28, 0))
    write_hdf5(root / "TSA_simu_data/Truth/scene02.mat", "img", smooth_cube(16, 16, 31, 0))
    (root / "TSA_simu_data/mask.mat").write_bytes(b"MATLAB")
    faults = faults_of("cassi", root)
    expected = [
        "scene1.MAT must be a complete",
        "16 bits, got values of at most",
        "[0, 1], got",
        "28 bands, got",
        "mask.mat",
    ]
    assert len(faults) == len(expected)
    assert all(any(message in fault for fault in faults) for message in expected), faults


@pytest.mark.parametrize("dataset", ["gopro", "realblur", "rain13k", "sidd", "div2k", "reside", "ntire2022", "cassi"])
def test_a_source_that_is_not_there_is_refused(dataset, tmp_path):
    with pytest.raises(DataError, match=r"must (be or )?hold"):
        find_source(dataset, tmp_path)


def test_faults_are_raised_again_outside(gopro):
    (gopro / "GoPro/train/input/a.png").unlink()
    data = GoProDataModule(gopro)
    with collect_faults() as faults:
        assert len(data.train_pairs()) == 2
    assert len(faults.errors) == len(faults.shortfalls) == 1
    with pytest.raises(DataError, match="1 without counterpart"):
        data.train_pairs()
