"""MATLAB cubes of both generations, and what is said of those that cannot be used."""

import h5py
import numpy as np
import pytest
import scipy.io

from datamodules.errors import DataError
from datamodules.files.cubes import read_cube, read_mask, write_cube
from tests.spectral_data import smooth_cube, write_hdf5

CUBE = smooth_cube(6, 8, 5, 0)


@pytest.fixture(params=["7.3", "5", "5 compressed"])
def file(request, tmp_path):
    path = tmp_path / "scene.mat"
    if request.param == "7.3":
        write_hdf5(path, "cube", CUBE)
    else:
        scipy.io.savemat(path, {"cube": CUBE, "other": np.eye(2)}, do_compression="compressed" in request.param)
    return path


def test_a_cube_is_read_as_matlab_shows_it(file):
    np.testing.assert_array_equal(read_cube(file), CUBE)
    np.testing.assert_array_equal(read_cube(file, bands=5, size=(6, 8)), CUBE)


def test_a_part_is_that_part(file):
    part = read_cube(file, window=(slice(1, 4), slice(2, 7)))
    np.testing.assert_array_equal(part, CUBE[1:4, 2:7])
    assert part.flags.c_contiguous


def test_the_first_key_that_is_there_counts(tmp_path):
    scipy.io.savemat(tmp_path / "both.mat", {"img": CUBE, "img_expand": 2 * CUBE})
    np.testing.assert_array_equal(read_cube(tmp_path / "both.mat", ("img_expand", "img")), 2 * CUBE)
    np.testing.assert_array_equal(read_cube(tmp_path / "both.mat", ("cube", "img")), CUBE)


@pytest.mark.parametrize("suffix", [".mat", ".npz"])
def test_what_is_written_is_read_back(tmp_path, suffix):
    path = tmp_path / f"new/cube{suffix}"
    write_cube(path, CUBE)
    back = read_cube(path) if suffix == ".mat" else np.load(path)["cube"]
    np.testing.assert_array_equal(back, CUBE)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"suffix of .*cube\.txt must be \.mat or \.npz, got '\.txt'"):
        write_cube(tmp_path / "cube.txt", CUBE)


def test_a_mask_is_a_matrix(tmp_path):
    mask = np.random.default_rng(0).random((4, 6))
    write_hdf5(tmp_path / "new.mat", "mask", mask)
    scipy.io.savemat(tmp_path / "old.mat", {"mask": mask})
    for name in ("new", "old"):
        np.testing.assert_array_equal(read_mask(tmp_path / f"{name}.mat"), mask.astype(np.float32))
    scipy.io.savemat(tmp_path / "cube.mat", {"mask": CUBE})
    with pytest.raises(DataError, match=r"cube\.mat must be height × width, got 6×8×5"):
        read_mask(tmp_path / "cube.mat")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bands": 31}, r"scene\.mat must be height × width × 31 bands, got 6×8×5"),
        ({"size": (6, 9)}, r"scene\.mat must be 6 height × 9 width × bands, got 6×8×5"),
        ({"keys": ("img", "mask")}, r"scene\.mat must hold the variable img or mask, got cube"),
    ],
)
def test_what_a_cube_must_be_is_said_with_its_file(file, arguments, message):
    with pytest.raises(DataError, match=message):
        read_cube(file, **arguments)


@pytest.mark.parametrize("content", ["cut", "noise", "nothing"])
def test_a_damaged_file_is_named(file, content):
    data = file.read_bytes()
    broken = {"cut": data[: len(data) // 2], "noise": bytes(range(256)) * 8, "nothing": b""}[content]
    file.write_bytes(broken)
    with pytest.raises(DataError, match=r"scene\.mat must be a complete MATLAB file"):
        read_cube(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.mat must be a file, got nothing there"):
        read_cube(tmp_path / "gone.mat")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    cube = CUBE.copy()
    cube[2, 3, 1] = value
    write_hdf5(tmp_path / "bad.mat", "cube", cube)
    with pytest.raises(DataError, match=r"bad\.mat must be finite, got NaN or infinite"):
        read_cube(tmp_path / "bad.mat")


def test_other_variables_than_numbers_are_refused(tmp_path):
    scipy.io.savemat(tmp_path / "complex.mat", {"cube": CUBE * 1j})
    with pytest.raises(DataError, match=r"complex\.mat must hold real numbers, got complex128"):
        read_cube(tmp_path / "complex.mat")
    with h5py.File(tmp_path / "group.mat", "w") as group:
        group.create_group("cube")
    with pytest.raises(DataError, match=r"/cube of .*group\.mat must be an array, got a group"):
        read_cube(tmp_path / "group.mat")
