"""Crops, packs, verification and resumption, on toy data sets; a real process is killed in tests/trainers."""

import shutil

import numpy as np
import pytest

from datamodules import GoProDataModule, RESIDEDataModule, SIDDDataModule, SuperResolutionDataModule
from datamodules.base.checks import call
from datamodules.base.crops import Cut
from datamodules.errors import DataError, collect_faults
from datamodules.files.images import has_images, list_images, read_image, write_image
from datamodules.files.packs import PACK_NAME, write_pack
from datamodules.preparation.crops import prepare
from datamodules.preparation.inventory import find_source
from datamodules.preparation.published_crops import choose_cut, make_jobs, make_links
from datamodules.preparation.worker_pool import run
from tests.datamodules.conftest import coordinates, write_pairs
from tests.spectral_data import smooth_cube, write_arad, write_cassi, write_hdf5


@pytest.fixture
def gopro(tmp_path):
    for split in ("train", "test"):
        write_pairs(tmp_path / "source/GoPro" / split, ["a", "b", "c"], size=(40, 56))
    return tmp_path / "source"


def make(dataset, source, output, *, scale=None, pack=False, workers=0, **cut):
    cut = choose_cut(dataset, **cut)
    found = find_source(dataset, source, scale=scale)
    made = [prepare(job, workers=workers) for job in make_jobs(found, output, cut, pack=pack)]
    make_links(found, output)
    return made[0] if len(made) == 1 else made


def faults_of(dataset, source, **options):
    found = find_source(dataset, source, **options)
    return found.faults.errors + [fault for part in found.sets for check in part.checks for fault in call(check)]


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("size", "cut", "rows", "columns"),
    [
        ((720, 1280), Cut(512, 256), [0, 208], [0, 256, 512, 768]),
        ((1024, 512), Cut(512, 256), [0, 256, 512], [0]),
        ((480, 700), Cut(480, 240), [0], [0, 220]),
    ],
)
def test_the_grid_ends_at_the_edges(size, cut, rows, columns):
    windows = cut.windows(*size, "name")
    assert [(r.start, c.start) for r, c in windows] == [(row, column) for row in rows for column in columns]
    assert all((r.stop - r.start, c.stop - c.start) == (cut.size, cut.size) for r, c in windows)
    # All of GoPro gives as many crops as Restormer is trained on.
    assert size != (720, 1280) or 2103 * len(windows) == 16_824


def test_small_images_are_taken_whole_and_random_places_depend_on_name_and_seed():
    assert Cut(512, 256).windows(300, 600, "x") == [(slice(0, 300), slice(0, 512)), (slice(0, 300), slice(88, 600))]
    random = Cut(8, random=300)
    windows = random.windows(20, 9, "x")
    assert len(windows) == 300
    assert {rows.start for rows, _ in windows} == set(range(13))
    assert {columns.start for _, columns in windows} == {0, 1}
    assert windows == random.windows(20, 9, "x")
    assert windows != random.windows(20, 9, "y")
    assert windows != Cut(8, random=300, seed=1).windows(20, 9, "x")


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


def test_damaged_packs_are_named(tmp_path):
    write_pack(tmp_path / "folder", [("a.png", coordinates(4, 4))])
    pack = tmp_path / "folder" / PACK_NAME
    with pytest.raises(DataError, match=r"image .*b\.png must be in .*images\.h5, got no such image"):
        read_image(pack / "b.png")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / PACK_NAME).write_bytes(pack.read_bytes()[:200])
    for action in (list_images, lambda folder: read_image(folder / PACK_NAME / "a.png")):
        with pytest.raises(DataError, match=r"pack .*broken/images\.h5 must be a complete file of images"):
            action(tmp_path / "broken")


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
        ("input/d.png", "truncated, corrupt"),
        ("target/d.png", "truncated, corrupt"),
        ("input/e.png", "must have 8 bits a channel as published, got uint16"),
        ("input/f.png", "must be in colour"),
        ("target/g.png", "got 0 bytes"),
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


def test_a_source_without_a_training_set_makes_nothing(tmp_path):
    write_pairs(tmp_path / "GoPro/test", ["1"])
    with pytest.raises(DataError, match="must hold GoPro/train to make training data of, got none"):
        make("gopro", tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, r"crop_size \(0\) must be at least 1"),
        ({"step": -1}, r"step \(-1\) must be at least 1"),
        ({"random": 0}, r"crops_per_image \(0\) must be at least 1"),
        ({"step": 8, "random": 4}, r"step \(8\) must be null where crops_per_image \(4\)"),
    ],
)
def test_numbers_out_of_range_are_refused(gopro, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        make("gopro", gopro, tmp_path / "out", **arguments)


def test_published_cuts():
    assert choose_cut("gopro") == Cut(512, 256)
    assert choose_cut("sidd") == Cut(256, None, 300)
    assert choose_cut("sidd", size=512, step=256) == Cut(512, 256)
    assert choose_cut("div2k") == Cut(480, 240)


def test_processes_are_at_least_none():
    assert list(run(abs, [-1, 2], 0)) == [1, 2]
    with pytest.raises(ValueError, match=r"workers \(-1\) must be at least 0"):
        next(run(abs, [1], -1))


def test_faults_are_raised_again_outside(gopro):
    (gopro / "GoPro/train/input/a.png").unlink()
    data = GoProDataModule(gopro)
    with collect_faults() as faults:
        assert len(data.train_pairs()) == 2
    assert len(faults.errors) == len(faults.shortfalls) == 1
    with pytest.raises(DataError, match="1 without counterpart"):
        data.train_pairs()
